package authz

import (
	"context"
	"errors"
	"testing"
	"time"

	"tollgate/keymanager"
)

// TestHearing: what may have waited in a buffer does not count as contact.
func TestHearing(t *testing.T) {
	const (
		beat  = keymanager.Heartbeat
		begin = keymanager.SnapshotBegin
		item  = keymanager.Item
		end   = keymanager.SnapshotEnd
	)
	type message struct {
		at       time.Duration
		kind     keymanager.MessageType
		late     bool
		complete time.Duration
	}
	s := time.Second
	for name, list := range map[string][]message{
		"heartbeats":           {{10 * s, beat, false, 10 * s}, {13 * s, beat, false, 13 * s}, {14 * s, item, false, 14 * s}},
		"a pause":              {{10 * s, beat, false, 10 * s}, {13*s + 1, beat, true, 10 * s}, {13*s + 2, beat, true, 10 * s}},
		"a late first message": {{13*s + 1, beat, true, 0}},
		"a snapshot":           {{10 * s, begin, false, 0}, {11 * s, item, false, 0}, {12 * s, end, false, 12 * s}, {13 * s, beat, false, 13 * s}},
		"a late snapshot is used, and asks for a new stream": {{20 * s, begin, false, 0}, {20 * s, item, false, 0}, {20 * s, end, true, 0}},
		"a pause in a snapshot":                              {{10 * s, begin, false, 0}, {14 * s, item, false, 0}, {14 * s, end, true, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var h hearing
			h.open(10*s, func(error) {})
			for i, m := range list {
				err := h.heard(m.at, m.kind)
				if (err != nil) != m.late || time.Duration(h.complete.Load()) != m.complete {
					t.Errorf("message %d: %v, complete at %s", i, err, time.Duration(h.complete.Load()))
				}
			}
			h.open(30*s, func(error) {})
			if err := h.heard(31*s, beat); err != nil || time.Duration(h.complete.Load()) != 31*s {
				t.Errorf("in a new stream: %v", err)
			}
		})
	}
}

// TestASilentStreamIsLeft for another one, but not before a large snapshot had
// time to begin.
func TestASilentStreamIsLeft(t *testing.T) {
	var h hearing
	ctx, cancel := context.WithCancelCause(t.Context())
	h.open(time.Minute, cancel)
	h.leave(time.Minute + firstMessage)
	if err := h.heard(time.Minute+firstMessage, keymanager.SnapshotBegin); err != nil || ctx.Err() != nil {
		t.Fatalf("a stream that has not begun: %v, %v", err, ctx.Err())
	}
	h.leave(time.Minute + firstMessage + staleAfter)
	if ctx.Err() != nil {
		t.Fatal("left too early")
	}
	h.leave(time.Minute + firstMessage + staleAfter + 1)
	var silent *silenceError
	if !errors.As(context.Cause(ctx), &silent) {
		t.Fatalf("not left: %v", context.Cause(ctx))
	}
	h.leave(time.Hour) // there is nothing to leave any more
	ctx, cancel = context.WithCancelCause(t.Context())
	h.open(time.Minute, cancel)
	if h.leave(time.Minute + firstMessage + 1); ctx.Err() == nil {
		t.Error("a stream that never begins is not left")
	}
}

// TestAStreamThatFallsBehind: messages that come often enough, but each later
// than the one before, are no contact.
func TestAStreamThatFallsBehind(t *testing.T) {
	const every = 2900 * time.Millisecond // what a heartbeat of each second is let through
	theirs := time.Unix(1_700_000_000, 0)
	at := keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 5}
	mark := func(t keymanager.MessageType, p keymanager.Position) keymanager.Mark {
		return keymanager.Mark{Type: t, At: p, After: at}
	}
	rigged := func(t *testing.T) (*Server, *clock) {
		c := newClock()
		s := newRig(t, func(o *Options) { o.Now = c.Now }).server
		s.contact.revocations.open(s.contact.since(c.Now()), func(error) {})
		must(t, s.revocation(keymanager.Event{Mark: mark(keymanager.SnapshotBegin, at)}))
		must(t, s.revocation(keymanager.Event{Mark: mark(keymanager.SnapshotEnd, at)}))
		return s, c
	}
	t.Run("revocations", func(t *testing.T) {
		s, c := rigged(t)
		var late *silenceError
		for i := range 100 {
			err := s.revocation(keymanager.Event{Mark: mark(keymanager.Heartbeat, at), Now: theirs.Add(time.Duration(i) * time.Second)})
			if errors.As(err, &late) {
				break
			}
			must(t, err)
			c.advance(every)
		}
		if late == nil {
			t.Fatal("heartbeats from three minutes ago are contact")
		}
		if was := time.Duration(s.contact.revocations.complete.Load()); was > 2*every {
			t.Errorf("they were, up to %s", was)
		}
		s.contact.revocations.open(s.contact.since(c.Now()), func(error) {})
		must(t, s.revocation(keymanager.Event{Mark: mark(keymanager.Heartbeat, at), Now: theirs}))
	})
	t.Run("catalog", func(t *testing.T) {
		s, c := rigged(t)
		h := &s.contact.catalog
		h.open(s.contact.since(c.Now()), func(error) {})
		head := at
		for i := range 10 {
			after := head
			head.Seq++
			must(t, s.revocation(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Heartbeat, At: head, After: after}, Now: theirs.Add(time.Duration(i) * every)}))
			h.behind = s.contact.log.beyond(at)
			must(t, s.heard(h, keymanager.Heartbeat, nil))
			c.advance(every)
		}
		if was := time.Duration(h.complete.Load()); was > 3*every {
			t.Errorf("a catalog that stands still beside a log that goes on is complete at %s", was)
		}
		h.behind = s.contact.log.beyond(head)
		if must(t, s.heard(h, keymanager.Heartbeat, nil)); time.Duration(h.complete.Load()) != s.contact.since(c.Now()) {
			t.Error("one that has come up is not")
		}
	})
}
