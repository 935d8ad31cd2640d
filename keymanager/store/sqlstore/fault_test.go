//go:build !short

package sqlstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// TestFaultPostgres has the database die or be cut off while it is written to.
func TestFaultPostgres(t *testing.T) {
	t.Run("F14 kill -9 of postmaster and children under writes", faultKilled)
	t.Run("F15 connection cut at COMMIT", faultCutAtCommit)
}

// within polls until ok, and fails the test if that takes longer than a
// generous multiple of what is promised.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// faultKilled kills the server several times while several key managers issue
// and revoke. Everything that was answered is there afterwards, the log has no
// gap, and the pools connect again by themselves.
func faultKilled(t *testing.T) {
	server := storetest.StartServer(t)
	stores := []*sqlstore.Store{openPostgres(t, server.DSN(), sqlstore.Options{}), openPostgres(t, server.DSN(), sqlstore.Options{})}
	from := crashWorld(t, stores[0])
	answered := map[int]bool{}
	var mu sync.Mutex
	next := 0
	for round := range 3 {
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				s := stores[w%2]
				for ctx.Err() == nil {
					mu.Lock()
					next++
					token := crashToken(next)
					n := next
					mu.Unlock()
					if s.CreateToken(ctx, token) != nil {
						continue
					}
					if _, err := s.RevokeToken(ctx, token.ID, time.UnixMilli(1)); err == nil {
						mu.Lock()
						answered[n] = true
						mu.Unlock()
					}
				}
			})
		}
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(answered) }
		before := count()
		within(t, "writes are answered", func() bool { return count() > before+50*(round+1) })
		server.Kill()
		mu.Lock()
		before = next
		mu.Unlock()
		within(t, "writes fail", func() bool { mu.Lock(); defer mu.Unlock(); return next > before+8 })
		server.Start()
		before = count()
		within(t, "the pools have connected again", func() bool { return count() > before+20 })
		stop()
		writers.Wait()
		for _, s := range stores {
			checkAfterKill(t, s, from, answered)
		}
	}
	if len(answered) < 300 {
		t.Errorf("only %d revocations were answered", len(answered))
	}
}

// faultCutAtCommit loses the connection around the commit, 400 times: some of
// what failed is done, and some is not. Who looks again by the key, and then
// does what is missing, has one effect of each.
func faultCutAtCommit(t *testing.T) {
	ctx := t.Context()
	server := storetest.StartServer(t)
	link := storetest.NewLink(t, server)
	s := openPostgres(t, link.DSN(), sqlstore.Options{MaxConns: 2})
	from := crashWorld(t, s)
	random := rand.New(rand.NewPCG(1, 2))
	unknown, done := 0, 0
	for n := range 200 {
		token := crashToken(n)
		fault := func(tag string) {
			if random.IntN(2) == 0 {
				link.LoseReply(tag)
			} else {
				link.CutRequest(random.IntN(1200))
			}
		}
		fault("INSERT 0 1")
		if err := s.CreateToken(ctx, token); err != nil {
			unknown++
			if keymanager.KindOf(err) != keymanager.KindUnavailable {
				t.Fatalf("token %d: %v, want that the outcome is not known", n, err)
			}
			link.Heal()
			_, err := s.TokenByDigest(ctx, token.Digest)
			switch {
			case err == nil:
				done++
			case keymanager.IsNotFound(err):
				if err := s.CreateToken(ctx, token); err != nil {
					t.Fatalf("token %d, again: %v", n, err)
				}
			default:
				t.Fatalf("token %d, looked for: %v", n, err)
			}
		}
		fault("COMMIT")
		if _, err := s.RevokeToken(ctx, token.ID, time.UnixMilli(1)); err != nil {
			unknown++
			if keymanager.KindOf(err) != keymanager.KindUnavailable {
				t.Fatalf("revocation %d: %v, want that the outcome is not known", n, err)
			}
			link.Heal()
			now, err := s.RevokeToken(ctx, token.ID, time.UnixMilli(1))
			if err != nil {
				t.Fatalf("revocation %d, again: %v", n, err)
			}
			if !now {
				done++
			}
		}
		link.Heal()
	}
	if done == 0 || done == unknown {
		t.Errorf("of %d unknown outcomes %d were done: the test does not cut where it should", unknown, done)
	}
	t.Logf("%d unknown outcomes, %d of them done", unknown, done)
	answered := map[int]bool{}
	for n := range 200 {
		answered[n] = true
	}
	checkAfterKill(t, s, from, answered) // no token has two events, and none has none
	tokens, err := s.Texts(ctx, 1, `SELECT CAST(count(*) AS TEXT) FROM access_token_primary`)
	if err != nil || strings.Join(tokens, "") != "200" {
		t.Errorf("%v tokens, %v", tokens, err)
	}
}

// TestPostgresOwnerMeanwhile: who is disabled just while he becomes the owner of
// an application leaves none of its verdicts in use.
func TestPostgresOwnerMeanwhile(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t) + "&idle_in_transaction_session_timeout=60s&lock_timeout=60s"
	s := openPostgres(t, dsn, sqlstore.Options{StatementTimeout: time.Minute})
	crashWorld(t, s)
	u := &keymanager.User{ID: "next", Organization: "acme", Name: "bob", Status: keymanager.UserActive}
	if err := s.CreateUser(ctx, u); err != nil {
		t.Fatal(err)
	}
	app, err := s.Application(ctx, "app")
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	disabled := make(chan error, 1)
	_, err = s.InTx(ctx, func(tx store.Store) error {
		app.Owner = u.ID
		if err := tx.UpdateApplication(ctx, app); err != nil {
			return err
		}
		go func() {
			u.Status = keymanager.UserDisabled
			disabled <- s.UpdateUser(ctx, u)
		}()
		within(t, "the other one waits", func() bool {
			waiting, err := s.Texts(ctx, 1, `SELECT 'waits' FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'UPDATE users%'`)
			return err == nil && len(waiting) > 0
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-disabled; err != nil {
		t.Fatal(err)
	}
	events, err := s.Events(ctx, before.Seq, 10)
	if err != nil || len(events) != 3 || events[2].Stale == nil || events[2].Stale.Application != "app" {
		t.Errorf("events %s, %v: want the application stale once more after its owner", fmt.Sprint(events), err)
	}
}
