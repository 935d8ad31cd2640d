package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

const (
	writers         = 16
	writesPerWriter = 25
)

// testConcurrency has many writers, and followers that read the log while it is
// written: whoever has seen number n has seen all before it, and sees the state
// that they tell of.
func testConcurrency(t *testing.T, s store.Store) {
	w := create(t, s)
	start := head(t, s)
	apps := make([]keymanager.Application, writers)
	for i := range apps {
		apps[i] = newApplication(&w.Owner, fmt.Sprintf("App %d", i))
		must(t, s.CreateApplication(t.Context(), &apps[i]))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	const total = writers * writesPerWriter * 2
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if err := follow(ctx, s, start, total); err != nil {
				t.Error(err)
			}
		})
	}
	var mu sync.Mutex
	answered := map[uint64]bool{} // positions that InTx returned
	for i := range writers {
		group.Go(func() {
			for n := range writesPerWriter {
				pos, err := s.InTx(ctx, func(tx store.Store) error {
					apps[i].Attributes = map[string]string{"n": fmt.Sprint(n)}
					if err := tx.UpdateApplication(ctx, &apps[i]); err != nil {
						return err
					}
					return tx.Append(ctx, store.LogEvent{Stale: &keymanager.Stale{User: keymanager.UserID(fmt.Sprintf("%d/%d", i, n))}})
				})
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
					cancel() // the followers would wait for ever
					return
				}
				mu.Lock()
				if answered[pos.Seq] {
					t.Errorf("position %d was answered twice", pos.Seq)
				}
				answered[pos.Seq] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if h := head(t, s); h != start+total {
		t.Errorf("head %d, want %d", h, start+total)
	}
	for i := range apps {
		if apps[i].Revision != 1+writesPerWriter {
			t.Errorf("application %d: revision %d, want %d", i, apps[i].Revision, 1+writesPerWriter)
		}
	}

	testRace(ctx, t, s, w)
}

// follow reads total events after from, as a gateway's feed does, and fails on
// the first gap.
func follow(ctx context.Context, s store.Store, from uint64, total int) error {
	next := map[int]int{} // of each writer, the number of the change to come
	for last := from; last < from+uint64(total); {
		events, err := s.Events(ctx, last, 7)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Seq != last+1 {
				return fmt.Errorf("event %d follows %d", e.Seq, last)
			}
			last = e.Seq
			if e.Stale == nil || e.Stale.User == "" {
				continue
			}
			var writer, n int
			if _, err := fmt.Sscanf(string(e.Stale.User), "%d/%d", &writer, &n); err != nil {
				return err
			}
			if n != next[writer] {
				return fmt.Errorf("writer %d: change %d, want %d", writer, n, next[writer])
			}
			next[writer]++
		}
	}
	return nil
}

// testRace lets many do what only one may: change one revision, take one name,
// one place, and revoke one token.
func testRace(ctx context.Context, t *testing.T, s store.Store, w *world) {
	token := newToken(&w.Client, w.Owner.ID)
	must(t, s.CreateToken(ctx, &token))
	place := "/" + id("race")
	for what, c := range map[string]struct {
		do    func(i int) (bool, error)
		loser keymanager.Kind
	}{
		"update of one revision": {func(int) (bool, error) {
			u := w.Owner
			return true, s.UpdateUser(ctx, &u)
		}, keymanager.KindPrecondition},
		"user name": {func(int) (bool, error) {
			u := newUser(w.Org.ID, "dora")
			return true, s.CreateUser(ctx, &u)
		}, keymanager.KindConflict},
		"place of an API": {func(i int) (bool, error) {
			a := newAPI(w.Org.ID, id("Race"))
			a.Context = place
			if i%2 == 0 {
				a.Hosts = []string{fmt.Sprintf("h%d.example", i)}
			} else {
				a.Context = place + "/x" // a context of its own, for each odd one the same
			}
			if i%4 == 2 {
				a.Hosts = nil
			}
			return i%2 == 1, s.CreateAPI(ctx, &a)
		}, keymanager.KindConflict},
		"revocation": {func(int) (bool, error) { return s.RevokeToken(ctx, token.ID, t0) }, 0},
	} {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range writers {
			wg.Go(func() {
				counts, err := c.do(i)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil && keymanager.KindOf(err) != c.loser:
					t.Errorf("%s: %v", what, err)
				case err == nil && counts:
					won++
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%s: %d winners, want 1", what, won)
		}
	}
	// Among those with hosts, either some with hosts of their own or the one of
	// every host came through.
	every, some := 0, 0
	must(t, s.AllAPIs(ctx, func(a *keymanager.API) error {
		if a.Context == place {
			if len(a.Hosts) == 0 {
				every++
			} else {
				some++
			}
		}
		return nil
	}))
	if (every != 1 || some != 0) && (every != 0 || some == 0) {
		t.Errorf("one place: %d APIs on every host beside %d on their own", every, some)
	}
}
