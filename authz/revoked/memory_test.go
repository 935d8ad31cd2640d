package revoked

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"tollgate/keymanager"
)

// snapshotOf applies a snapshot of n dead tokens.
func snapshotOf(t *testing.T, s *Set, p keymanager.Position, n int) {
	t.Helper()
	apply := func(typ keymanager.MessageType, d *keymanager.Dead) {
		t.Helper()
		if err := s.Apply(keymanager.Event{Mark: keymanager.Mark{Type: typ, At: p, After: p}, Dead: d}); err != nil {
			t.Fatal(err)
		}
	}
	apply(keymanager.SnapshotBegin, nil)
	for i := range n {
		apply(keymanager.Item, &keymanager.Dead{TokenID: numbered(i), ExpiresAt: start.Add(time.Duration(i%7200) * time.Second)})
	}
	apply(keymanager.SnapshotEnd, nil)
}

func numbered(i int) (id keymanager.TokenID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15)
	id[15] = 1
	return id
}

// TestFaultManyRevocations: a million dead tokens take at most 100 MB, and what
// is beyond the cap is coarsened, not dropped.
func TestFaultManyRevocations(t *testing.T) {
	t.Run("F26 memory", func(t *testing.T) {
		const n, limit = 1_000_000, 100 << 20
		before := live()
		s := New(0)
		snapshotOf(t, s, at(10), n)
		size := live() - before
		t.Logf("%d MB, %d bytes for each dead token", size>>20, size/n)
		if size > limit {
			t.Errorf("%d MB for %d dead tokens, want at most %d", size>>20, n, limit>>20)
		}
		v := verdict(10)
		for i := range n {
			v.TokenID = numbered(i)
			if got := s.Check(v, api); got != Dead {
				t.Fatalf("token %d is %d", i, got)
			}
		}
		runtime.KeepAlive(s)
	})
	t.Run("F26 a snapshot over the cap", func(t *testing.T) {
		const n, limit = 1_000_000, 10_000
		before := live()
		s := New(limit)
		snapshotOf(t, s, at(10), n)
		if tokens, _ := s.Len(); tokens > limit {
			t.Errorf("%d tokens are remembered, want at most %d", tokens, limit)
		}
		if size := live() - before; size > 10<<20 {
			t.Errorf("%d MB", size>>20)
		}
		// Each of them was dead when the snapshot was taken: a verdict from
		// before is asked for again, one from after says so itself.
		v := verdict(9)
		for i := 0; i < n; i += 997 {
			v.TokenID = numbered(i)
			if got := s.Check(v, api); got == Live {
				t.Fatalf("token %d is live by a verdict from before the snapshot", i)
			}
		}
		// What dies afterwards is remembered one by one again.
		late := numbered(n + 1)
		if err := s.Apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Item, At: at(11), After: at(10)}, Dead: &keymanager.Dead{TokenID: late}}); err != nil {
			t.Fatal(err)
		}
		v = verdict(10)
		if v.TokenID = late; s.Check(v, api) != Dead {
			t.Error("what died after the snapshot is not dead")
		}
		if v.TokenID = numbered(n + 2); s.Check(v, api) != Live {
			t.Error("another one is not live")
		}
		runtime.KeepAlive(s)
	})
	t.Run("F26 over the cap by events", func(t *testing.T) {
		const limit = 1000
		s := New(limit)
		snapshotOf(t, s, at(10), 0)
		for i := range 5 * limit {
			seq := 11 + uint64(i)
			if err := s.Apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Item, At: at(seq), After: at(seq - 1)}, Dead: &keymanager.Dead{TokenID: numbered(i)}}); err != nil {
				t.Fatal(err)
			}
			if tokens, _ := s.Len(); tokens > limit {
				t.Fatalf("%d tokens are remembered", tokens)
			}
			v := verdict(10)
			for j := 0; j <= i; j += 499 {
				if v.TokenID = numbered(j); s.Check(v, api) == Live {
					t.Fatalf("after %d events token %d is live", i+1, j)
				}
			}
		}
	})
}

func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
