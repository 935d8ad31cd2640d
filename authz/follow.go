package authz

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tollgate/keymanager"
)

// Waits between the attempts to open a stream.
const (
	firstWait = 20 * time.Millisecond
	maxWait   = time.Second
)

// reportEvery is the longest time between two reports, and reportTimeout that
// of one.
const (
	reportEvery   = time.Second
	reportTimeout = time.Second
)

// Run follows the catalog and the revocations and reports to the key manager,
// until ctx ends. It opens broken streams again.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		s.follow(ctx, "catalog", &s.contact.catalog, func(ctx context.Context) error {
			return s.catalog.Watch(ctx, s.apis.Start(), []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
				return s.heard(&s.contact.catalog, s.apis.Apply(c))
			})
		})
		return nil
	})
	g.Go(func() error {
		s.follow(ctx, "revocations", &s.contact.revocations, func(ctx context.Context) error {
			return s.revocations.Follow(ctx, s.revoked.Start(), s.revocation)
		})
		return nil
	})
	g.Go(func() error {
		s.report(ctx)
		return nil
	})
	err := g.Wait()
	s.setHealth(false)
	return err
}

// revocation takes a message of the Revocations stream.
func (s *Server) revocation(e keymanager.Event) error {
	if !e.Now.IsZero() {
		s.contact.skew.Store(int64(e.Now.Sub(s.now())))
		// What has expired by one clock alone is not forgotten: the other one
		// decides whether a verdict in the cache has, and a revoked credential
		// must not come back because a clock was wrong for a while.
		if own := s.contact.clock(s.now()); own.Before(e.Now) {
			e.Now = own
		}
	}
	return s.heard(&s.contact.revocations, s.revoked.Apply(e))
}

// heard notes that a message came and has taken effect.
func (s *Server) heard(when *atomic.Int64, err error) error {
	if err != nil {
		return err
	}
	when.Store(int64(s.now().Sub(s.contact.started)))
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// follow keeps a stream open.
func (s *Server) follow(ctx context.Context, name string, heard *atomic.Int64, stream func(context.Context) error) {
	for wait := firstWait; ; {
		before := heard.Load()
		err := guard(ctx, stream)
		if ctx.Err() != nil {
			return
		}
		if heard.Load() != before {
			wait = firstWait
		}
		if wait == firstWait {
			s.log.Warn("stream from the key manager ended; it is opened again", "stream", name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // nothing secret
		}
		wait = min(2*wait, maxWait)
	}
}

// guard turns a panic into an error: what one message did must not end every
// decision.
func guard(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f(ctx)
}

// report tells the key manager the state, whenever it changed and every second.
func (s *Server) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var last keymanager.GatewayState
	failed := false
	for due := true; ; {
		s.setHealth(s.Ready() == nil)
		now := s.now()
		state := keymanager.GatewayState{
			Kind: keymanager.GatewayAuthz, ID: s.id, Group: s.group,
			Phase: s.phase(now), Confirmed: s.confirmed(), Lag: s.contact.silence(now),
		}
		if due || state.Phase != last.Phase || state.Confirmed != last.Confirmed {
			err := s.send(ctx, state)
			if err != nil && !failed && ctx.Err() == nil {
				s.log.Warn("the state could not be reported", "error", err)
			}
			failed, last = err != nil, state
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			due = true
		case <-s.wake:
			due = failed
		}
	}
}

func (s *Server) send(ctx context.Context, state keymanager.GatewayState) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return s.gateways.Report(ctx, state)
}
