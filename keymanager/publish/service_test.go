package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store"
)

var dawn = keymanager.Position{}

func TestOptions(t *testing.T) {
	for name, o := range map[string]publish.Options{
		"nothing":           {},
		"no store":          {Now: time.Now, Logger: slog.Default()},
		"no clock":          {Store: newMemory(), Logger: slog.Default()},
		"no logger":         {Store: newMemory(), Now: time.Now},
		"negative interval": {Store: newMemory(), Now: time.Now, Logger: slog.Default(), Poll: -1},
	} {
		if s, err := publish.New(o); err == nil || s != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if g, err := publish.NewGateways(publish.GatewaysOptions{}); err == nil || g != nil {
		t.Errorf("gateways without a clock: %v, %v", g, err)
	}
}

func TestMarks(t *testing.T) {
	m := newMemory()
	m.put("a")
	s, _ := start(t, wakesOnly(m))
	catalog, revocations := watch(t, s, dawn, nil), follow(t, s, dawn)
	catalog.await(t, "beat@1")
	revocations.await(t, "beat@1")
	for i, write := range []func(){func() { m.put("b") }, func() { m.stale() }, func() { m.put("c") },
		func() { m.append(store.LogEvent{Dead: &keymanager.Dead{TokenID: keymanager.TokenID{1}}}) }} {
		write()
		for _, r := range []*receiver{catalog, revocations} { // one after the other: their order is then certain
			eventually(t, "message", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.last.At.Seq == uint64(i+2) })
		}
	}
	m.do(func() { delete(m.apis, "a") })
	m.append(store.LogEvent{API: "a"}, store.LogEvent{Tier: &keymanager.TierRef{Name: "g"}})
	catalog.await(t, "no tier g@7")
	revocations.await(t, "beat@7")
	want := []string{"begin@1", "api a@1", "end@1", "beat@1", "api b@2", "beat@3", "api c@4", "beat@5", "no api a@6", "no tier g@7"}
	if got := catalog.text(); !slices.Equal(got, want) {
		t.Errorf("catalog sent %q\nwant %q", got, want)
	}
	want = []string{"begin@1", "end@1", "beat@1", "beat@2", "stale@3", "beat@4", "dead@5", "beat@7"}
	if got := revocations.text(); !slices.Equal(got, want) {
		t.Errorf("revocations sent %q\nwant %q", got, want)
	}
}

func TestResume(t *testing.T) {
	m := newMemory()
	for i := range 100 { // more than is kept in memory, and than a batch, below
		m.put(keymanager.APIID(fmt.Sprint("n", i)))
	}
	for range 1000 {
		m.stale()
	}
	s, _ := start(t, quick(m))
	at := func(seq uint64) keymanager.Position { return keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: seq} }

	t.Run("from the log", func(t *testing.T) {
		r := watch(t, s, at(95), nil)
		r.await(t, "beat@1100")
		if got := r.text()[:5]; !slices.Equal(got, []string{"api n95@96", "api n96@97", "api n97@98", "api n98@99", "api n99@100"}) {
			t.Errorf("sent %q", got)
		}
		if r.has("begin") {
			t.Error("a snapshot came")
		}
	})
	t.Run("from memory", func(t *testing.T) {
		r := follow(t, s, at(1097))
		r.await(t, "stale@1100")
		if got := r.text()[:3]; !slices.Equal(got, []string{"stale@1098", "stale@1099", "stale@1100"}) {
			t.Errorf("sent %q", got)
		}
	})
	m.do(func() { m.pruned = 50 })
	t.Run("pruned", func(t *testing.T) {
		r := watch(t, s, at(49), nil)
		r.await(t, "end@1100")
		if r.text()[0] != "begin@1100" {
			t.Errorf("sent %q", r.text()[:3])
		}
	})
	t.Run("not quite pruned", func(t *testing.T) {
		r := watch(t, s, at(50), nil)
		r.await(t, "beat@1100")
		if r.text()[0] != "api n50@51" || r.has("begin") {
			t.Errorf("sent %q", r.text()[:3])
		}
	})
	t.Run("a hole", func(t *testing.T) {
		m.do(func() { m.hole = 80 })
		defer m.do(func() { m.hole = 0 })
		r := follow(t, s, at(70))
		r.await(t, "end@1100")
		if r.text()[0] != "begin@1100" {
			t.Errorf("sent %q", r.text()[:3])
		}
	})
	t.Run("another epoch", func(t *testing.T) {
		r := follow(t, s, keymanager.Position{Epoch: keymanager.Epoch{2}, Seq: 1100})
		r.await(t, "end@1100")
	})
	t.Run("beyond the head", func(t *testing.T) {
		r := follow(t, s, at(2000))
		r.await(t, "end@1100")
	})
}

// A gateway that has followed a quicker key manager is ahead of this one's
// reading, not of the log: it waits and needs no snapshot.
func TestAheadOfTheReader(t *testing.T) {
	m := newMemory()
	for range 10 {
		m.stale()
	}
	m.do(func() { m.hide = 6 }) // this key manager sees five events
	s, _ := start(t, quick(m))
	early := follow(t, s, dawn)
	early.await(t, "beat@5")
	m.do(func() { m.hide = 0 })
	late := follow(t, s, keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 8})
	late.await(t, "stale@10")
	if got := late.text(); got[0] != "stale@9" && got[0] != "beat@8" || late.has("begin") {
		t.Errorf("sent %q", got)
	}
}

// However many streams there are, the log and its objects are read once; a
// receiver that stands still costs no memory and misses nothing.
func TestOneReaderManyStreams(t *testing.T) {
	m := newMemory()
	s, _ := start(t, wakesOnly(m))
	hold := make(chan struct{})
	var streams []*receiver
	for range 10 {
		streams = append(streams, watch(t, s, dawn, nil), follow(t, s, dawn))
	}
	slow := watch(t, s, dawn, hold)
	for _, r := range streams {
		r.await(t, "beat@0")
	}
	slow.await(t, "begin@0")
	if n := m.count("AllAPIs"); n != 1 {
		t.Errorf("the catalog was read %d times for streams that start together", n)
	}
	reads, apis := m.count("Events"), m.count("API")
	const writes = 200
	for i := range writes {
		pos := m.put(keymanager.APIID(fmt.Sprint("n", i)))
		for _, r := range streams[:2] {
			eventually(t, "message", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.last.At == pos })
		}
	}
	if n := m.count("API") - apis; n != writes {
		t.Errorf("%d reads of APIs for %d writes", n, writes)
	}
	if n := m.count("Events") - reads; n > 2*writes {
		t.Errorf("%d reads of the log for %d writes", n, writes)
	}
	close(hold)
	slow.await(t, fmt.Sprintf("api n%d@%d", writes-1, writes))
	var items []string
	for _, text := range slow.text() {
		if text[:3] == "api" {
			items = append(items, text)
		}
	}
	if len(items) != writes {
		t.Errorf("the slow one has %d items, want %d", len(items), writes)
	}
}

func TestRunEndsStreams(t *testing.T) {
	m := newMemory()
	s, err := publish.New(quick(m))
	if err != nil {
		t.Fatal(err)
	}
	catalog, revocations := watch(t, s, dawn, nil), follow(t, s, dawn) // before Run they wait
	stop := run(t, s)
	catalog.await(t, "beat@0")
	revocations.await(t, "beat@0")
	stop()
	late := follow(t, s, dawn)
	for _, r := range []*receiver{catalog, revocations, late} {
		if err := r.end(t); keymanager.KindOf(err) != keymanager.KindUnavailable {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestStreamBeforeRunEndsWithItsContext(t *testing.T) {
	s, err := publish.New(quick(newMemory()))
	if err != nil {
		t.Fatal(err)
	}
	r := watch(t, s, dawn, nil)
	r.stop()
	if !errors.Is(r.err, context.Canceled) || len(r.text()) > 0 {
		t.Errorf("ended with %v after %q", r.err, r.text())
	}
}

func TestPrune(t *testing.T) {
	m := newMemory()
	for range 30 {
		m.stale()
	}
	o := quick(m)
	o.Retention = 10
	start(t, o)
	eventually(t, "pruning", func() bool { return m.count("Prune") > 0 })
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pruneArg != 20 {
		t.Errorf("pruned up to %d, want 20", m.pruneArg)
	}
}
