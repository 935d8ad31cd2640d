package xds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tollgate/keymanager"
)

// Pauses between attempts to follow the catalog.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// follow keeps the groups on the catalog until ctx ends: it resumes where it
// was, starts again from a snapshot after a gap, and keeps trying. The log is
// told when it breaks off and when it goes on, not of each try.
func (s *Server) follow(ctx context.Context) error {
	var cursor keymanager.Cursor
	pause, failing := firstPause, false
	for ctx.Err() == nil {
		err := s.opts.Catalog.Watch(ctx, cursor.Start(), []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
			pause = firstPause
			if failing {
				failing = false
				s.opts.Logger.Info("the catalog is followed again")
			}
			return s.receive(&cursor, c)
		})
		if ctx.Err() != nil {
			break
		}
		if !failing {
			failing = true
			s.opts.Logger.Warn("the catalog cannot be followed; Envoys keep what they have", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
	return ctx.Err()
}

// receive takes one message of the catalog. Only this goroutine calls it.
func (s *Server) receive(cursor *keymanager.Cursor, c keymanager.Change) error {
	inside := cursor.InSnapshot()
	if err := cursor.Accept(c.Mark); err != nil {
		return err
	}
	now := s.opts.Now()
	s.heard.Store(&now)
	switch c.Type {
	case keymanager.SnapshotBegin:
		s.snapshot = nil
	case keymanager.SnapshotEnd:
		s.submit(delivery{at: c.At, whole: true, apis: s.snapshot})
		s.snapshot = nil
	case keymanager.Heartbeat:
		s.submit(delivery{at: c.At})
	case keymanager.Item:
		switch {
		case inside && c.API != nil:
			s.snapshot = append(s.snapshot, c.API)
		case inside:
		case c.API != nil:
			s.submit(delivery{at: c.At, apis: []*keymanager.API{c.API}})
		case c.RemovedAPI != "":
			s.submit(delivery{at: c.At, removed: c.RemovedAPI})
		default:
			s.submit(delivery{at: c.At})
		}
	default:
		return fmt.Errorf("xds: catalog message of type %d", c.Type)
	}
	return nil
}

func (s *Server) submit(d delivery) {
	for _, g := range s.groups {
		g.submit(d)
	}
}

// delivery is a change of the catalog on its way to a group.
type delivery struct {
	at      keymanager.Position
	whole   bool // apis is everything there is
	apis    []*keymanager.API
	removed keymanager.APIID
	again   bool          // the apis have not changed: they are looked at again
	certs   *certificates // nothing else then: it comes from the operator
}

// Run follows the catalog, serves its content and reports, until ctx ends. It
// returns nil then.
func (s *Server) Run(ctx context.Context) error {
	defer s.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks := []func(context.Context) error{s.follow, s.report}
	for _, g := range s.groups {
		tasks = append(tasks, g.run)
	}
	done := make(chan error, len(tasks))
	for _, task := range tasks {
		go func() { done <- task(ctx) }()
	}
	var first error
	for range tasks {
		err := <-done
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) && first == nil {
			first = err
		}
	}
	return first
}
