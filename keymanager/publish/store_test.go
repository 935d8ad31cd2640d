package publish_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func TestLogThatLosesItsPlace(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(m *memory)
		want string
	}{
		{"hole at the end", func(m *memory) { m.hole = m.head.Seq + 1 }, "end@7"},
		{"last event missing", func(m *memory) { m.head.Seq++ }, "end@6"},
		{"new epoch", func(m *memory) { m.head.Epoch[0]++ }, "end@5"},
		{"pruned ahead of the reader", func(m *memory) {
			for range 5 {
				m.head.Seq++
				m.events = append(m.events, store.LogEvent{Seq: m.head.Seq, API: "a"})
			}
			m.pruned = m.head.Seq
		}, "end@10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory()
			for range 5 {
				m.put("a")
			}
			s, _ := start(t, quick(m))
			catalog, revocations := watch(t, s, dawn, nil), follow(t, s, dawn)
			catalog.await(t, "beat@5")
			revocations.await(t, "beat@5")
			before := len(catalog.text())
			m.do(func() { tt.lose(m) })
			if m.hole > 0 {
				m.put("b")
				m.put("c")
			}
			for _, r := range []*receiver{catalog, revocations} {
				eventually(t, tt.want, func() bool { return slices.Contains(r.text()[min(before, len(r.text())):], tt.want) })
			}
			m.do(func() { m.hole = 0 })
			pos := m.put("after")
			catalog.await(t, fmt.Sprintf("api after@%d", pos.Seq))
		})
	}
}

// A database that has lost events which gateways were told of tells them nothing
// until its log has a new epoch, however many new events take the old numbers.
func TestLogInThePast(t *testing.T) {
	m := newMemory()
	for range 5 {
		m.put("a")
	}
	s, _ := start(t, quick(m))
	catalog, revocations := watch(t, s, dawn, nil), follow(t, s, dawn)
	catalog.await(t, "beat@5")
	revocations.await(t, "beat@5")
	m.do(func() { m.head.Seq, m.events = 2, m.events[:2] })
	m.stale()
	reads := m.count("Head")
	eventually(t, "more reads", func() bool { return m.count("Head") > reads+3 })
	before := len(revocations.text())
	reads = m.count("Head")
	eventually(t, "more reads", func() bool { return m.count("Head") > reads+3 })
	if got := revocations.text(); len(got) > before || slices.Contains(got, "end@2") {
		t.Errorf("messages from the past: %q", got)
	}
	m.do(func() { m.head.Epoch[0]++ })
	catalog.await(t, "end@3")
	revocations.await(t, "end@3")
}

func TestWakes(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		m := newMemory()
		s, _ := start(t, wakesOnly(m))
		r := follow(t, s, dawn)
		r.await(t, "beat@0")
		m.stale()
		r.await(t, "stale@1")
	})
	t.Run("lost", func(t *testing.T) {
		m := newMemory()
		m.wake = make(chan struct{}) // nobody sends without blocking
		s, _ := start(t, quick(m))
		r := follow(t, s, dawn)
		r.await(t, "beat@0")
		m.stale()
		r.await(t, "stale@1")
	})
	t.Run("refused, then there", func(t *testing.T) {
		m := newMemory()
		m.wake = nil
		s, _ := start(t, quick(m))
		r := follow(t, s, dawn)
		r.await(t, "beat@0")
		m.stale()
		r.await(t, "stale@1")
		eventually(t, "second try", func() bool { return m.count("Wake") > 1 })
		m.do(func() { m.wake = make(chan struct{}, 1) })
		m.stale()
		r.await(t, "stale@2")
	})
	t.Run("closed, and closed again", func(t *testing.T) {
		m := newMemory()
		m.wake = make(chan struct{})
		close(m.wake)
		s, _ := start(t, wakesOnly(m))
		follow(t, s, dawn).await(t, "beat@0")
		if n := m.count("Wake"); n > 2 {
			t.Errorf("asked for wakes %d times", n)
		}
	})
	t.Run("closed", func(t *testing.T) {
		m := newMemory()
		closed := make(chan struct{})
		close(closed)
		m.wake = closed
		s, _ := start(t, quick(m))
		r := follow(t, s, dawn)
		r.await(t, "beat@0")
		m.do(func() { m.wake = make(chan struct{}, 1) })
		m.stale()
		r.await(t, "stale@1")
	})
}

// While the store does not answer there are no heartbeats, and nothing is lost.
func TestStoreAway(t *testing.T) {
	m := newMemory()
	c := &clock{now: time.Now()}
	o := quick(m)
	o.Now = c.Now
	s, _ := start(t, o)
	catalog, revocations := watch(t, s, dawn, nil), follow(t, s, dawn)
	catalog.await(t, "beat@0")
	revocations.await(t, "beat@0")
	m.do(func() { m.fail = keymanager.Errorf(keymanager.KindUnavailable, "away") })
	m.put("a")
	m.stale()
	tries := m.count("Events")
	eventually(t, "another try", func() bool { return m.count("Events") > tries+3 })
	before := len(revocations.text())
	tries = m.count("Events")
	eventually(t, "another try", func() bool { return m.count("Events") > tries+3 })
	if got := revocations.text(); len(got) > before {
		t.Errorf("messages without a store: %q", got[before:])
	}
	m.do(func() { m.fail = nil })
	catalog.await(t, "api a@1")
	revocations.await(t, "stale@2")
	if len(slices.DeleteFunc(catalog.text(), func(s string) bool { return s != "begin@0" })) != 1 {
		t.Errorf("a second snapshot: %q", catalog.text())
	}

	m.do(func() { m.fail = keymanager.Errorf(keymanager.KindUnavailable, "away") })
	c.add(time.Minute) // what was read for the streams before serves no more
	for name, r := range map[string]*receiver{
		"at the start":    follow(t, s, dawn),
		"from the future": follow(t, s, keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 99}),
	} {
		if err := r.end(t); keymanager.KindOf(err) != keymanager.KindUnavailable {
			t.Errorf("%s ended with %v", name, err)
		}
	}
}

// What cannot be read of the catalog holds up neither revocations nor, in the
// end, the other APIs.
func TestUnreadableAPI(t *testing.T) {
	m := newMemory()
	s, _ := start(t, quick(m))
	catalog, revocations := watch(t, s, dawn, nil), follow(t, s, dawn)
	catalog.await(t, "beat@0")
	revocations.await(t, "beat@0") // a stream that begins later has no part in what is before
	m.do(func() { m.failAPI = keymanager.Errorf(keymanager.KindUnavailable, "too slow") })
	m.put("bad")
	m.stale()
	m.put("good")
	revocations.await(t, "stale@2")
	if catalog.has("api good") {
		t.Error("a change overtook another")
	}
	m.do(func() { m.failAPI = nil })
	catalog.await(t, "api bad@1")
	catalog.await(t, "api good@3")
	m.do(func() { m.failAPI = errors.New("damaged") })
	m.put("bad")
	m.put("good")
	catalog.await(t, "no api bad@4")
	catalog.await(t, "api good@5")
	late := watch(t, s, keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 3}, nil)
	late.await(t, "api good@5")
}
