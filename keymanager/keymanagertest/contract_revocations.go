package keymanagertest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"tollgate/keymanager"
)

func follow(t testing.TB, s *Subject, from keymanager.Position) *tape[keymanager.Event] {
	t.Helper()
	return record(t, from, func(e keymanager.Event) keymanager.Mark { return e.Mark }, s.Revocations.Follow, nil)
}

func dead(id byte, expires time.Time) keymanager.Dead {
	return keymanager.Dead{TokenID: keymanager.TokenID{id}, ExpiresAt: expires}
}

var revocationCases = []testCase{
	{"a stream starts with what is dead", func(t *testing.T, s *Subject) {
		now := s.Now().Truncate(time.Second).UTC()
		want := []keymanager.Dead{
			dead(1, now.Add(time.Hour)),
			{ConsumerKey: "ck", NotBefore: now, ExpiresAt: now.Add(time.Hour)},
			{User: "u", NotBefore: now},
			dead(2, time.Time{}),
		}
		for _, d := range want[:2] {
			s.World.Kill(t, d)
		}
		over := dead(3, now.Add(-time.Hour)) // nothing left to refuse
		s.World.Kill(t, over)
		s.World.Stale(t, keymanager.Stale{Application: "a"})
		s.World.Kill(t, want[2])
		pos := s.World.Kill(t, want[3])
		tape := follow(t, s, keymanager.Position{})
		all := tape.await(t, "heartbeat at the head", func(all []keymanager.Event) bool {
			return tape.count(all, keymanager.Heartbeat) > 0 && all[len(all)-1].At == pos
		})
		if all[0].Type != keymanager.SnapshotBegin {
			t.Errorf("messages are %s, want a snapshot first", tape.marks(all))
		}
		var got []keymanager.Dead
		for _, e := range tape.items(all) {
			if inside := e.At == e.After; inside && (e.Dead == nil || *e.Dead == over) {
				t.Fatalf("%+v, %+v in a snapshot", e.Stale, e.Dead)
			}
			// A snapshot can hold more than its position says; the log repeats it.
			if e.Dead != nil && !slices.Contains(got, *e.Dead) {
				got = append(got, *e.Dead)
			}
		}
		got = slices.DeleteFunc(got, func(d keymanager.Dead) bool { return d == over })
		if !reflect.DeepEqual(got, want) {
			t.Errorf("dead are\n%+v\nwant\n%+v", got, want)
		}
	}},
	{"every event comes, in order", func(t *testing.T, s *Subject) {
		tape := follow(t, s, keymanager.Position{})
		tape.reached(t, s.World.Head(t))
		before := len(tape.messages())
		s.World.Kill(t, dead(1, time.Time{}))
		s.World.PutAPI(t, SampleAPI("a"))
		s.World.Stale(t, keymanager.Stale{Application: "x"})
		s.World.Stale(t, keymanager.Stale{TokenID: keymanager.TokenID{9}})
		pos := s.World.Kill(t, dead(2, time.Time{}))
		items := tape.items(tape.reached(t, pos)[before:])
		if len(items) != 4 || items[0].Dead == nil || items[0].Dead.TokenID != (keymanager.TokenID{1}) ||
			items[1].Stale == nil || items[1].Stale.Application != "x" ||
			items[2].Stale == nil || items[2].Stale.TokenID != (keymanager.TokenID{9}) ||
			items[3].Dead == nil || items[3].At != pos {
			t.Errorf("items are %+v", items)
		}
	}},
	{"the head moves without an item", func(t *testing.T, s *Subject) {
		tape := follow(t, s, keymanager.Position{})
		tape.reached(t, s.World.Head(t))
		all := tape.reached(t, s.World.PutAPI(t, SampleAPI("a")))
		if last := all[len(all)-1]; last.Type != keymanager.Heartbeat || last.Now.IsZero() {
			t.Errorf("the last message is %+v, want a heartbeat", last)
		}
	}},
	{"resumed without a snapshot", func(t *testing.T, s *Subject) {
		from := s.World.Kill(t, dead(1, time.Time{}))
		pos := s.World.Kill(t, dead(2, time.Time{}))
		tape := follow(t, s, from)
		all := tape.reached(t, pos)
		if len(tape.items(all)) != 1 || tape.count(all, keymanager.SnapshotBegin) != 0 {
			t.Errorf("messages are %+v, want the second event alone", all)
		}
	}},
	{"away while the log was pruned", func(t *testing.T, s *Subject) {
		from := s.World.Head(t)
		s.World.Kill(t, dead(1, time.Time{}))
		pos := s.World.Stale(t, keymanager.Stale{Application: "x"})
		s.World.PruneAll(t)
		tape := follow(t, s, from)
		all := tape.reached(t, pos)
		found := slices.ContainsFunc(all, func(e keymanager.Event) bool { return e.Dead != nil && e.Dead.TokenID == dead(1, time.Time{}).TokenID })
		stale := slices.ContainsFunc(all, func(e keymanager.Event) bool { return e.Stale != nil })
		if !found || !stale && tape.count(all, keymanager.SnapshotEnd) == 0 {
			t.Errorf("messages are %s, want both events, or a snapshot with what is dead", tape.marks(all))
		}
	}},
	{"a new epoch in an open stream", func(t *testing.T, s *Subject) {
		tape := follow(t, s, keymanager.Position{})
		tape.reached(t, s.World.Kill(t, dead(1, time.Time{})))
		s.World.NewEpoch(t)
		all := tape.reached(t, s.World.Kill(t, dead(2, time.Time{})))
		if tape.count(all, keymanager.SnapshotEnd) < 2 {
			t.Errorf("no second snapshot: %+v", all)
		}
	}},
	{"heartbeats come while nothing happens", func(t *testing.T, s *Subject) {
		tape := follow(t, s, keymanager.Position{})
		all := tape.await(t, "second heartbeat", func(all []keymanager.Event) bool { return tape.count(all, keymanager.Heartbeat) >= 2 })
		for _, e := range all {
			if e.Now.IsZero() == (e.Type == keymanager.Heartbeat) {
				t.Errorf("the clock of %+v", e)
			}
		}
	}},
	{"the context ends it", func(t *testing.T, s *Subject) {
		tape := follow(t, s, keymanager.Position{})
		tape.reached(t, s.World.Head(t))
		if err := tape.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}},
	{"one write reaches both streams", func(t *testing.T, s *Subject) {
		changes, events := watch(t, s, keymanager.Position{}, onlyAPIs, nil), follow(t, s, keymanager.Position{})
		for range 20 {
			pos := s.World.PutAPI(t, SampleAPI("a"))
			changes.reached(t, pos)
			events.reached(t, pos)
		}
	}},
}
