package authz

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
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

// Run follows the catalog and the revocations, reports to the key manager,
// watches over decisions, and tidies up, until ctx ends. It opens broken streams
// again. When decisions hang it returns ErrHung at once, without waiting for
// anything that may hang too.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched, followed := make(chan error, 1), make(chan error, 1)
	go func() { watched <- s.watch(ctx) }()
	go func() { followed <- s.followAll(ctx) }()
	if err := <-watched; err != nil {
		return err
	}
	return <-followed
}

func (s *Server) followAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		s.follow(ctx, "catalog", &s.contact.catalog, func(ctx context.Context) error {
			return s.catalog.Watch(ctx, s.apis.Start(), []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
				s.contact.catalog.behind = s.contact.log.beyond(c.At)
				return s.heard(&s.contact.catalog, c.Type, s.apis.Apply(c))
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
	g.Go(func() error {
		s.replies.run(ctx)
		return nil
	})
	err := g.Wait()
	s.setHealth(false)
	return err
}

// revocation takes a message of the Revocations stream.
func (s *Server) revocation(e keymanager.Event) error {
	now, theirs := s.now(), e.Now
	if !theirs.IsZero() {
		// What has expired by one clock alone is not forgotten: the other one
		// decides whether a verdict in the cache has, and a revoked credential
		// must not come back because a clock was wrong for a while.
		if own := s.contact.clock(now); own.Before(theirs) {
			e.Now = own
		}
		s.contact.revocations.sent(theirs, s.contact.since(now))
	}
	epoch := s.revoked.Position().Epoch
	err := s.heard(&s.contact.revocations, e.Type, s.revoked.Apply(e))
	if s.revoked.Position().Epoch != epoch {
		s.contact.head.Store(0)
	}
	if err == nil && !theirs.IsZero() { // one that came late tells an old time
		s.contact.told(theirs, now)
		s.contact.log.tell(e.At, s.contact.since(now))
	}
	return err
}

// heard notes that a message came and, unless err says otherwise, has taken
// effect.
func (s *Server) heard(h *hearing, t keymanager.MessageType, err error) error {
	if err != nil {
		return err
	}
	err = h.heard(s.contact.since(s.now()), t)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return err
}

// follow keeps a stream open.
func (s *Server) follow(ctx context.Context, name string, h *hearing, stream func(context.Context) error) {
	for wait := firstWait; ; {
		before := h.complete.Load()
		one, cancel := context.WithCancelCause(ctx)
		h.open(s.contact.since(s.now()), cancel)
		err := guard(one, stream)
		if cause := context.Cause(one); cause != nil {
			err = cause
		}
		cancel(nil)
		if ctx.Err() != nil {
			return
		}
		if h.complete.Load() != before {
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
	failed, told := false, skewNone
	for due := true; ; {
		s.setHealth(s.Ready() == nil)
		now := s.now()
		at := s.contact.since(now)
		s.contact.catalog.leave(at)
		s.contact.revocations.leave(at)
		told = s.tellSkew(ctx, told, s.contact.skew(now))
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
