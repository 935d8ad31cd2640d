package publish

import (
	"context"
	"math/rand/v2"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// batch is how many events are read from the log at once.
const batch = 512

// tail reads the log into the feed of events until ctx ends: on each wake, and
// each poll interval all the same.
//
// After a failure it tries again soon: whoever has just found the database well
// again may write a revocation, and waits only a moment for gateways.
func (s *Service) tail(ctx context.Context) {
	ctx = store.Vital(ctx)
	var wake <-chan struct{}
	t := tailState{due: s.opts.Now()}
	failing := false
	for ctx.Err() == nil {
		if wake == nil {
			wake = s.subscribe(ctx)
		}
		more, err := s.readInTime(ctx, &t)
		if failed := err != nil; failed != failing && ctx.Err() == nil {
			if failing = failed; failed {
				s.opts.Logger.Error("the log cannot be read: gateways are not told of changes", "error", err)
			} else {
				s.opts.Logger.Info("the log can be read again")
			}
		}
		if more && err == nil {
			continue
		}
		wait := s.opts.Poll
		if err != nil {
			wait = min(wait, retryMin+rand.N(retryMin)) //nolint:gosec // no secret: not all key managers at once
			s.pause(ctx, wait/4)                        // also if wakes come all the time
		}
		select {
		case <-ctx.Done():
		case _, ok := <-wake:
			if !ok {
				wake = nil
				s.pause(ctx, wait)
			}
		case <-time.After(wait):
		}
	}
}

const (
	// retryMin is how soon, at the least, the log is read again after a failure.
	retryMin = 40 * time.Millisecond
	// readTimeout bounds one read: what waits for a lost connection would be
	// late for what comes after it.
	readTimeout = 2 * time.Second
)

func (s *Service) readInTime(ctx context.Context, t *tailState) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.readLog(ctx, t)
}

// subscribe returns the channel of wakes, or nil: polling does without, and
// another try comes with the next poll.
func (s *Service) subscribe(ctx context.Context) <-chan struct{} {
	wake, err := s.opts.Store.Wake(ctx)
	if err != nil && ctx.Err() == nil {
		s.opts.Logger.Warn("no wakes from the store: polling", "interval", s.opts.Poll, "error", err)
	}
	if err != nil {
		return nil
	}
	return wake
}

// tailState is what tail remembers between reads.
type tailState struct {
	at       keymanager.Position // the log was read up to here
	loaded   bool
	promised uint64 // the log had events up to here
	beats    uint64
	due      time.Time // of the next heartbeat
}

// readLog reads one batch, and reports whether there is more. The head is read
// after the events, so that these cannot be of a later epoch than it.
func (s *Service) readLog(ctx context.Context, t *tailState) (more bool, err error) {
	var events []store.LogEvent
	kept := true
	if t.loaded {
		if events, kept, err = s.eventsAfter(ctx, t.at.Seq); err != nil {
			return false, err
		}
	}
	head, err := s.opts.Store.Head(ctx)
	if err != nil {
		return false, err
	}
	if now := s.opts.Now(); !now.Before(t.due) {
		t.beats++
		t.due = now.Add(s.opts.Heartbeat)
		s.catalog.expire(now)
		s.dead.expire(now)
	}
	if t.loaded && head.Epoch == t.at.Epoch && head.Seq < t.promised {
		return false, store.InThePast(t.promised, head.Seq) // gateways would take it for the truth
	}
	items, last, ok := dense(events, t.at.Seq)
	lost := !kept || len(events) == 0 && t.promised > t.at.Seq
	if !t.loaded || !ok || lost || head.Epoch != t.at.Epoch {
		if t.loaded {
			s.opts.Logger.Warn("the log does not go on where it was left: gateways start again", "left", t.at, "head", head)
		}
		t.loaded, t.at, t.promised = true, head, head.Seq
		s.events.reset(head, t.beats)
		return false, nil
	}
	t.at.Seq, t.promised = last, head.Seq
	s.events.append(items, last, t.beats)
	return head.Seq > last, nil
}

// dense returns events as items if they are numbered after+1, after+2, ...,
// and the last number.
func dense(events []store.LogEvent, after uint64) (items []item[store.LogEvent], last uint64, ok bool) {
	items = make([]item[store.LogEvent], len(events))
	for i, e := range events {
		if e.Seq != after+uint64(i)+1 {
			return nil, after, false
		}
		items[i] = item[store.LogEvent]{seq: e.Seq, value: e}
	}
	return items, after + uint64(len(events)), true
}

// readEvents reads what follows after, for a reader that the feed no longer
// serves: there must be something.
func (s *Service) readEvents(ctx context.Context, after keymanager.Position) ([]item[store.LogEvent], keymanager.Position, bool, error) {
	events, kept, err := s.eventsAfter(ctx, after.Seq)
	if err != nil || !kept {
		return nil, after, false, err
	}
	head, err := s.opts.Store.Head(ctx)
	if err != nil {
		return nil, after, false, err
	}
	items, last, ok := dense(events, after.Seq)
	ok = ok && len(items) > 0 && head.Epoch == after.Epoch
	return items, keymanager.Position{Epoch: after.Epoch, Seq: last}, ok, nil
}

// eventsAfter reads one batch; kept is false if the log says itself that it no
// longer holds what follows.
func (s *Service) eventsAfter(ctx context.Context, seq uint64) (events []store.LogEvent, kept bool, err error) {
	events, err = s.opts.Store.Events(ctx, seq, batch)
	if keymanager.KindOf(err) == keymanager.KindPrecondition {
		return nil, false, nil
	}
	return events, true, err
}

// pause waits for d, or until ctx ends.
func (s *Service) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
