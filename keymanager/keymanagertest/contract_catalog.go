package keymanagertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"tollgate/keymanager"
)

var (
	apisAndTiers = []keymanager.CatalogKind{keymanager.CatalogAPI, keymanager.CatalogTier}
	onlyAPIs     = []keymanager.CatalogKind{keymanager.CatalogAPI}
	onlyTiers    = []keymanager.CatalogKind{keymanager.CatalogTier}
)

func watch(t testing.TB, s *Subject, from keymanager.Position, kinds []keymanager.CatalogKind, also func(keymanager.Change) error) *tape[keymanager.Change] {
	t.Helper()
	return record(t, from, func(c keymanager.Change) keymanager.Mark { return c.Mark },
		func(ctx context.Context, from keymanager.Position, fn func(keymanager.Change) error) error {
			return s.Catalog.Watch(ctx, from, kinds, fn)
		}, also)
}

// published is what a receiver has after the messages of a stream.
func published(all []keymanager.Change) map[string]any {
	now := map[string]any{}
	var next map[string]any // the snapshot that has begun
	for _, c := range all {
		into := now
		if next != nil {
			into = next
		}
		switch {
		case c.Type == keymanager.SnapshotBegin:
			next = map[string]any{}
		case c.Type == keymanager.SnapshotEnd:
			now, next = next, nil
		case c.API != nil:
			into["api "+string(c.API.ID)] = content(*c.API)
		case c.RemovedAPI != "":
			delete(into, "api "+string(c.RemovedAPI))
		case c.Tier != nil:
			into[fmt.Sprint("tier ", c.Tier.Organization, c.Tier.Name)] = c.Tier.Requests
		case c.RemovedTier != nil:
			delete(into, fmt.Sprint("tier ", c.RemovedTier.Organization, c.RemovedTier.Name))
		}
	}
	return now
}

// content takes out what the store decides.
func content(a keymanager.API) keymanager.API {
	a.Position, a.Meta = 0, keymanager.Meta{}
	return a
}

func describe(c keymanager.Change) string {
	switch {
	case c.API != nil:
		return "api " + string(c.API.ID)
	case c.Tier != nil:
		return "tier " + string(c.Tier.Name)
	case c.RemovedAPI != "":
		return "no api " + string(c.RemovedAPI)
	case c.RemovedTier != nil:
		return "no tier " + string(c.RemovedTier.Name)
	default:
		return fmt.Sprint(c.Type)
	}
}

func wantChanges(t testing.TB, got []keymanager.Change, want ...string) {
	t.Helper()
	var texts []string
	for _, c := range got {
		texts = append(texts, describe(c))
	}
	if !slices.Equal(texts, want) {
		t.Errorf("items are %q, want %q", texts, want)
	}
}

var catalogCases = []testCase{
	{"a stream starts with a snapshot", func(t *testing.T, s *Subject) {
		a, b := SampleAPI("a"), SampleAPI("b")
		b.State = keymanager.StateCreated // not routed: an item like any other
		b.CORS = &keymanager.CORS{AllowOrigins: []string{"*"}}
		s.World.PutAPI(t, a)
		pos := s.World.PutAPI(t, b)
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		all := tape.await(t, "heartbeat at the head", func(all []keymanager.Change) bool {
			return tape.count(all, keymanager.Heartbeat) > 0 && all[len(all)-1].At == pos
		})
		if all[0].Type != keymanager.SnapshotBegin || tape.count(all, keymanager.SnapshotEnd) != 1 {
			t.Fatalf("not a snapshot: %s", tape.marks(all))
		}
		want := map[string]any{"api a": content(*a), "api b": content(*b)}
		if got := published(all); !reflect.DeepEqual(got, want) {
			t.Errorf("published is\n%+v\nwant\n%+v", got, want)
		}
	}},
	{"kinds", func(t *testing.T, s *Subject) {
		pos := s.World.PutAPI(t, SampleAPI("a"))
		only, both := watch(t, s, keymanager.Position{}, onlyTiers, nil), watch(t, s, keymanager.Position{}, apisAndTiers, nil)
		none := watch(t, s, keymanager.Position{}, nil, nil)
		only.reached(t, pos)
		both.reached(t, pos)
		s.World.PutAPI(t, SampleAPI("b"))
		pos = s.World.PutTier(t, &keymanager.Tier{Organization: Organization, Name: "Extra", Requests: 7, Unit: 1e9})
		for _, c := range only.items(only.reached(t, pos)) {
			if c.Tier == nil {
				t.Errorf("a stream of tiers has %s", describe(c))
			}
		}
		if got := published(both.reached(t, pos)); got["api a"] == nil || got["api b"] == nil || got["tier acmeExtra"] != int64(7) || got["tier acmeGold"] != int64(5000) {
			t.Errorf("published is %+v", got)
		}
		if got := none.items(none.reached(t, pos)); len(got) > 0 {
			t.Errorf("a stream of nothing has %+v", got)
		}
	}},
	{"every change comes, in order", func(t *testing.T, s *Subject) {
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		tape.reached(t, s.World.Head(t))
		before := len(tape.messages())
		a := SampleAPI("a")
		s.World.PutAPI(t, a)
		s.World.PutAPI(t, SampleAPI("b"))
		s.World.Stale(t, keymanager.Stale{Application: "x"})
		a.State = keymanager.StateBlocked
		pos := s.World.PutAPI(t, a)
		tape.reached(t, pos)
		s.World.DeleteAPI(t, "b")
		pos = s.World.PutAPI(t, SampleAPI("c"))
		all := tape.reached(t, pos)
		wantChanges(t, tape.items(all[before:]), "api a", "api b", "api a", "no api b", "api c")
		if tape.count(all, keymanager.SnapshotBegin) != 1 {
			t.Error("a snapshot came again")
		}
		if last := tape.items(all); last[len(last)-1].API.Position != pos.Seq {
			t.Errorf("its position is %d, it was published at %d", last[len(last)-1].API.Position, pos.Seq)
		}
	}},
	{"tiers come and go", func(t *testing.T, s *Subject) {
		tape := watch(t, s, keymanager.Position{}, onlyTiers, nil)
		tape.reached(t, s.World.Head(t))
		before := len(tape.messages())
		tier := keymanager.Tier{Organization: Organization, Name: "Extra", Requests: 7, Unit: 1e9}
		tape.reached(t, s.World.PutTier(t, &tier))
		all := tape.reached(t, s.World.DeleteTier(t, keymanager.TierRef{Organization: Organization, Name: "Extra"}))
		wantChanges(t, tape.items(all[before:]), "tier Extra", "no tier Extra")
	}},
	{"the head moves without an item", func(t *testing.T, s *Subject) {
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		tape.reached(t, s.World.Head(t))
		pos := s.World.Stale(t, keymanager.Stale{Application: "x"})
		all := tape.reached(t, pos)
		if last := all[len(all)-1]; last.Type != keymanager.Heartbeat {
			t.Errorf("the message at %v is %+v, want a heartbeat", pos, last)
		}
	}},
	{"resumed without a snapshot", func(t *testing.T, s *Subject) {
		s.World.PutAPI(t, SampleAPI("a"))
		from := s.World.PutAPI(t, SampleAPI("b"))
		s.World.Stale(t, keymanager.Stale{Application: "x"})
		pos := s.World.PutAPI(t, SampleAPI("c"))
		tape := watch(t, s, from, onlyAPIs, nil)
		wantChanges(t, tape.items(tape.reached(t, pos)), "api c")
		pos = s.World.PutAPI(t, SampleAPI("d"))
		all := tape.reached(t, pos)
		wantChanges(t, tape.items(all), "api c", "api d")
		if tape.count(all, keymanager.SnapshotBegin) != 0 {
			t.Error("a snapshot came")
		}
	}},
	{"resumed at the head", func(t *testing.T, s *Subject) {
		from := s.World.PutAPI(t, SampleAPI("a"))
		tape := watch(t, s, from, onlyAPIs, nil)
		all := tape.reached(t, from)
		if all[0].Type != keymanager.Heartbeat || all[0].After != from {
			t.Errorf("the first message is %+v, want a heartbeat", all[0])
		}
	}},
	{"changed and deleted while away", func(t *testing.T, s *Subject) {
		s.World.PutAPI(t, SampleAPI("b"))
		from := s.World.PutAPI(t, SampleAPI("a"))
		a := SampleAPI("a")
		a.State = keymanager.StateDeprecated
		s.World.PutAPI(t, a)
		pos := s.World.DeleteAPI(t, "a")
		tape := watch(t, s, from, onlyAPIs, nil)
		items := tape.items(tape.reached(t, pos))
		if len(items) == 0 || items[len(items)-1].RemovedAPI != "a" {
			t.Errorf("items are %+v, want a's removal at the end", items)
		}
	}},
	{"away while the log was pruned", func(t *testing.T, s *Subject) {
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		tape.reached(t, s.World.PutAPI(t, SampleAPI("a")))
		_ = tape.stop()
		s.World.PutAPI(t, SampleAPI("b"))
		pos := s.World.DeleteAPI(t, "a")
		s.World.PruneAll(t)
		again := watch(t, s, tape.cursor.Start(), onlyAPIs, nil)
		all := append(tape.messages(), again.reached(t, pos)...)
		if got := published(all); len(got) != 1 || got["api b"] == nil {
			t.Errorf("published is %+v, want b", got)
		}
	}},
	{"of another epoch", func(t *testing.T, s *Subject) {
		from := s.World.PutAPI(t, SampleAPI("a"))
		from.Epoch[15] ^= 1
		tape := watch(t, s, from, onlyAPIs, nil)
		all := tape.reached(t, s.World.Head(t))
		if all[0].Type != keymanager.SnapshotBegin {
			t.Errorf("the first message is %+v, want a snapshot", all[0])
		}
	}},
	{"from the future", func(t *testing.T, s *Subject) {
		from := s.World.PutAPI(t, SampleAPI("a"))
		pos := from
		from.Seq += 1000
		tape := watch(t, s, from, onlyAPIs, nil)
		all := tape.await(t, "snapshot", func(all []keymanager.Change) bool { return tape.count(all, keymanager.SnapshotEnd) > 0 })
		if all[0].Type != keymanager.SnapshotBegin || !pos.Reached(all[0].At) {
			t.Errorf("the first message is %+v, want a snapshot up to %v", all[0], pos)
		}
	}},
	{"a new epoch in an open stream", func(t *testing.T, s *Subject) {
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		tape.reached(t, s.World.PutAPI(t, SampleAPI("a")))
		s.World.NewEpoch(t)
		pos := s.World.PutAPI(t, SampleAPI("b"))
		all := tape.reached(t, pos)
		if tape.count(all, keymanager.SnapshotEnd) < 2 {
			t.Error("no second snapshot")
		}
		if got := published(all); len(got) != 2 {
			t.Errorf("published is %+v", got)
		}
	}},
	{"the receiver's error ends it", func(t *testing.T, s *Subject) {
		stop := errors.New("enough")
		s.World.PutAPI(t, SampleAPI("a"))
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, func(c keymanager.Change) error {
			if c.API != nil {
				return stop
			}
			return nil
		})
		if err := tape.end(t); !errors.Is(err, stop) {
			t.Errorf("ended with %v", err)
		}
		all := tape.messages()
		if last := all[len(all)-1]; last.API == nil || len(tape.items(all)) != 1 {
			t.Errorf("another message came after the error: %s", tape.marks(all))
		}
	}},
	{"the context ends it", func(t *testing.T, s *Subject) {
		tape := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		tape.reached(t, s.World.Head(t))
		if err := tape.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}},
	{"a slow receiver does not hold up others", func(t *testing.T, s *Subject) {
		release := make(chan struct{})
		slow := watch(t, s, keymanager.Position{}, onlyAPIs, func(c keymanager.Change) error {
			if c.API != nil && c.API.ID == "first" {
				<-release
			}
			return nil
		})
		defer func() {
			select {
			case <-release:
			default:
				close(release)
			}
		}()
		quick := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		quick.reached(t, s.World.PutAPI(t, SampleAPI("first")))
		slow.await(t, "first item", func(all []keymanager.Change) bool { return len(slow.items(all)) > 0 })
		var pos keymanager.Position
		for i := range 100 {
			pos = s.World.PutAPI(t, SampleAPI(keymanager.APIID(fmt.Sprint("n", i%10))))
		}
		want := published(quick.reached(t, pos))
		if len(want) != 11 {
			t.Fatalf("the quick one has %d APIs, want 11", len(want))
		}
		close(release)
		if got := published(slow.reached(t, pos)); !reflect.DeepEqual(got, want) {
			t.Errorf("the slow one has %+v, the quick one %+v", got, want)
		}
	}},
	{"writers and streams that come and go", func(t *testing.T, s *Subject) {
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := range 30 {
					a := SampleAPI(keymanager.APIID(fmt.Sprint("w", w, "-", i%4)))
					if i%7 == 6 {
						s.World.DeleteAPI(t, a.ID)
						continue
					}
					a.Labels = []string{fmt.Sprint("turn-", i)}
					s.World.PutAPI(t, a)
				}
			})
		}
		var from keymanager.Position
		var seen []keymanager.Change
		for range 5 { // each goes on where the one before stopped
			tape := watch(t, s, from, onlyAPIs, nil)
			tape.await(t, "message", func(all []keymanager.Change) bool {
				return len(all) > 5 && !inSnapshot(tape, all)
			})
			_ = tape.stop()
			seen = append(seen, tape.messages()...)
			from = tape.cursor.Start()
		}
		writers.Wait()
		head := s.World.Head(t)
		rest := watch(t, s, from, onlyAPIs, nil)
		seen = append(seen, rest.reached(t, head)...)
		fresh := watch(t, s, keymanager.Position{}, onlyAPIs, nil)
		if got, want := published(seen), published(fresh.reached(t, head)); !reflect.DeepEqual(got, want) {
			t.Errorf("after many streams %+v, after one snapshot %+v", got, want)
		}
	}},
}
