package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testLog(t *testing.T, s store.Store) {
	ctx := t.Context()
	empty := get(s.Head(ctx))(t)
	if empty.Seq != 0 || empty.Epoch == (keymanager.Epoch{}) {
		t.Errorf("head of an empty log: %v", empty)
	}
	if n := get(s.Oldest(ctx))(t); n != 1 {
		t.Errorf("oldest of an empty log: %d, want 1", n)
	}
	if e := get(s.Events(ctx, 0, 10))(t); len(e) != 0 {
		t.Errorf("events of an empty log: %v", e)
	}
	if err := s.Append(ctx, store.LogEvent{API: "a"}); err == nil {
		t.Error("appended outside of a transaction")
	}

	// Every field of every event survives.
	events := []store.LogEvent{
		{API: "api-1"},
		{Tier: &keymanager.TierRef{Organization: "o", Name: "Gold"}},
		{Dead: &keymanager.Dead{TokenID: tokenID(), ExpiresAt: t0}},
		{Dead: &keymanager.Dead{Family: tokenID()}},
		{Dead: &keymanager.Dead{ConsumerKey: "k\"é", NotBefore: t0, ExpiresAt: t0.Add(time.Hour)}},
		{Dead: &keymanager.Dead{User: "u", NotBefore: t0}},
		{Dead: &keymanager.Dead{UserStore: "FOO.COM", NotBefore: t0}},
		{Stale: &keymanager.Stale{Application: "a"}},
		{Stale: &keymanager.Stale{Subscription: "s"}},
		{Stale: &keymanager.Stale{TokenID: tokenID()}},
		{Stale: &keymanager.Stale{User: "u"}},
		{Stale: &keymanager.Stale{API: "api-1"}},
	}
	pos, err := s.InTx(ctx, func(tx store.Store) error { return tx.Append(ctx, events...) })
	must(t, err)
	if pos.Seq != uint64(len(events)) || pos.Epoch != empty.Epoch {
		t.Errorf("position %v after %d events", pos, len(events))
	}
	for i := range events {
		events[i].Seq = uint64(i) + 1
	}
	wantSame(t, "all events", get(s.Events(ctx, 0, 100))(t), events)
	wantSame(t, "some events", get(s.Events(ctx, 4, 3))(t), events[4:7])
	if e := get(s.Events(ctx, pos.Seq, 10))(t); len(e) != 0 {
		t.Errorf("events after the head: %v", e)
	}
	if e := get(s.Events(ctx, 1<<63, 10))(t); len(e) != 0 {
		t.Errorf("events far after the head: %v", e)
	}
	dead := get(s.LiveDead(ctx, t0.Add(-time.Millisecond)))(t)
	if len(dead) != 5 {
		t.Errorf("%d dead entries before any expired, want 5", len(dead))
	}
	if dead = get(s.LiveDead(ctx, t0))(t); len(dead) != 4 || dead[0].Family.IsZero() {
		t.Errorf("dead entries when the first has expired: %+v", dead)
	}

	for what, e := range map[string]store.LogEvent{
		"nothing":    {},
		"two things": {API: "a", Stale: &keymanager.Stale{API: "a"}},
	} {
		_, err := s.InTx(ctx, func(tx store.Store) error { return tx.Append(ctx, e) })
		if err == nil {
			t.Errorf("an event that names %s was accepted", what)
		}
	}
	if h := head(t, s); h != pos.Seq {
		t.Errorf("head %d, want %d", h, pos.Seq)
	}
}

func testPrune(t *testing.T, s store.Store) {
	ctx := t.Context()
	lasting := keymanager.Dead{ConsumerKey: "lasting", NotBefore: t0}
	later := keymanager.Dead{TokenID: tokenID(), ExpiresAt: t0.Add(time.Hour)}
	soon := keymanager.Dead{TokenID: tokenID(), ExpiresAt: t0.Add(time.Minute)}
	_, err := s.InTx(ctx, func(tx store.Store) error {
		return tx.Append(ctx, store.LogEvent{Dead: &lasting}, store.LogEvent{API: "a"}, store.LogEvent{Dead: &later},
			store.LogEvent{Dead: &soon}, store.LogEvent{API: "b"}, store.LogEvent{API: "c"})
	})
	must(t, err)

	must(t, s.Prune(ctx, 4, t0.Add(time.Minute)))
	if n := get(s.Oldest(ctx))(t); n != 5 {
		t.Errorf("oldest: %d, want 5", n)
	}
	wantSame(t, "events kept", get(s.Events(ctx, 4, 10))(t), []store.LogEvent{{Seq: 5, API: "b"}, {Seq: 6, API: "c"}})
	// A follower that is too far behind must learn it, whatever is left there.
	for after := range uint64(4) {
		e, err := s.Events(ctx, after, 10)
		if keymanager.KindOf(err) != keymanager.KindPrecondition {
			t.Errorf("events after %d: %+v, %v, want KindPrecondition", after, e, err)
		}
	}
	wantSame(t, "dead entries", get(s.LiveDead(ctx, t0))(t), []keymanager.Dead{lasting, later})

	must(t, s.Prune(ctx, 2, t0.Add(time.Minute))) // not backwards
	if n := get(s.Oldest(ctx))(t); n != 5 {
		t.Errorf("oldest after pruning less: %d, want 5", n)
	}
	must(t, s.Prune(ctx, 100, t0.Add(time.Hour))) // not beyond the head
	if n := get(s.Oldest(ctx))(t); n != 7 {
		t.Errorf("oldest after pruning all: %d, want 7", n)
	}
	if e, err := s.Events(ctx, 5, 10); keymanager.KindOf(err) != keymanager.KindPrecondition {
		t.Errorf("events of an empty log after 5: %+v, %v, want KindPrecondition", e, err)
	}
	if e := get(s.Events(ctx, 6, 10))(t); len(e) != 0 {
		t.Errorf("events after the head: %v", e)
	}
	wantSame(t, "dead entries", get(s.LiveDead(ctx, t0))(t), []keymanager.Dead{lasting})
	pos, err := s.InTx(ctx, func(tx store.Store) error { return tx.Append(ctx, store.LogEvent{API: "d"}) })
	if err != nil || pos.Seq != 7 {
		t.Errorf("the next event: %v, %v, want number 7", pos, err)
	}
}

func testWake(t *testing.T, s store.Store) {
	ctx := t.Context()
	first, err := s.Wake(ctx)
	must(t, err)
	short, cancel := context.WithCancel(ctx)
	second, err := s.Wake(short)
	must(t, err)
	appendOne := func(i int) {
		_, err := s.InTx(ctx, func(tx store.Store) error {
			return tx.Append(ctx, store.LogEvent{API: keymanager.APIID(fmt.Sprint("a", i))})
		})
		must(t, err)
	}
	for i := range 3 { // nobody has to receive for the next write to go on
		appendOne(i)
	}
	for _, c := range []<-chan struct{}{first, second} {
		select {
		case <-c:
		case <-time.After(30 * time.Second):
			t.Fatal("not woken")
		}
	}
	cancel()
	eventually(t, "the channel is closed", func() bool {
		select {
		case _, open := <-second:
			return !open
		default:
			return false
		}
	})
	// The other still works; a hint may be left over from before.
	eventually(t, "woken again", func() bool {
		appendOne(9)
		select {
		case <-first:
			return true
		default:
			return false
		}
	})
}
