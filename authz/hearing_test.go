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
