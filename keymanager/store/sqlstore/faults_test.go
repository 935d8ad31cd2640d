//go:build faults

package sqlstore_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// TestFaultPostgresMore holds the longer rows of TestFaultPostgres.
func TestFaultPostgresMore(t *testing.T) {
	t.Run("F16 SIGSTOP of backends and of the postmaster", faultStopped)
	t.Run("F17 restore of an old backup", faultRestored)
	t.Run("F18 disk full, then free", faultDiskFull)
	t.Run("F19 refusals of the server", faultRefusals)
	t.Run("F26 300,000 live revocations", faultManyDead)
	t.Run("F27 a client with 20,000 tokens is deleted", faultBulk)
	t.Run("F31 key manager an hour behind", faultClockBehind)
	t.Run("F61 kill -9 in the middle of each migration", faultMigrationKilled)
	t.Run("F63 context ends in the middle of issue and revoke", faultGivenUp)
}

// revocation is one transaction that appends.
func revocation(ctx context.Context, s *sqlstore.Store) error {
	_, err := s.InTx(ctx, func(tx store.Store) error {
		return tx.Append(ctx, store.LogEvent{Stale: &keymanager.Stale{User: "u"}})
	})
	return err
}

func wantUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	if keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("%s: %v, want that it is not available", what, err)
	}
}

// faultStopped: what runs in a stopped process ends at its deadline, and takes
// nothing with it.
func faultStopped(t *testing.T) {
	server := storetest.StartServer(t)
	s := openPostgres(t, server.DSN(), sqlstore.Options{MaxConns: 4})
	ctx := t.Context()
	for round := range 3 {
		var group sync.WaitGroup
		stopped := make(chan int, 3)
		for range 3 { // of the four connections
			group.Go(func() {
				_, err := s.InTx(ctx, func(tx store.Store) error {
					pids, err := tx.(*sqlstore.Store).Texts(ctx, 1, "SELECT CAST(pg_backend_pid() AS TEXT)")
					if err != nil {
						return err
					}
					pid, err := strconv.Atoi(pids[0])
					if err != nil {
						return err
					}
					if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
						return err
					}
					stopped <- pid
					short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
					defer cancel()
					begun := time.Now()
					_, err = tx.User(short, "nobody")
					if took := time.Since(begun); took > 5*time.Second {
						t.Errorf("ended after %v, its deadline was 300 ms", took)
					}
					return err
				})
				wantUnavailable(t, "in a stopped backend", err)
			})
		}
		group.Wait()
		begun := time.Now()
		for range 8 {
			group.Go(func() { // more at once than the places that were left
				ctx, cancel := context.WithTimeout(store.Urgent(ctx), 30*time.Second)
				defer cancel()
				if err := s.Ping(ctx); err != nil {
					t.Errorf("round %d: others: %v", round, err)
				}
				if err := revocation(ctx, s); err != nil {
					t.Errorf("round %d: others: %v", round, err)
				}
			})
		}
		group.Wait()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("others waited %v for a place in the pool", took)
		}
		for range 3 {
			_ = syscall.Kill(<-stopped, syscall.SIGCONT)
		}
	}

	// All of it stops, and goes on.
	server.Stop()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	wantUnavailable(t, "stopped server", revocation(short, s))
	cancel()
	server.Continue()
	begun := time.Now()
	within(t, "it goes on", func() bool { return revocation(ctx, s) == nil })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("usable %v after the server went on, want at most 5 s", took)
	}
}

// faultRestored: what was revoked after the backup is refused after its restore.
func faultRestored(t *testing.T) {
	server := storetest.StartServer(t)
	s, err := sqlstore.OpenPostgres(t.Context(), server.DSN(), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	crashWorld(t, s)
	before := issued(t, s, 0, 30)
	server.Backup()
	after := issued(t, s, 30, 5)
	revoke(t, s, before[:10])
	old, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	server.Restore()
	s = openPostgres(t, server.DSN(), sqlstore.Options{})
	checkRestored(t, s, before, after)
	if head, err := s.Head(t.Context()); err != nil || head.Epoch == old.Epoch {
		t.Errorf("head %v, before the restore %v, %v: a gateway would go on from there", head, old, err)
	}
}

// faultRefusals: each refusal fails the one request that meets it.
func faultRefusals(t *testing.T) {
	server := storetest.StartServer(t, "max_connections=12", "superuser_reserved_connections=0")
	ctx := t.Context()
	s := openPostgres(t, server.DSN(), sqlstore.Options{MaxConns: 4})
	crashWorld(t, s)

	t.Run("too many clients", func(t *testing.T) {
		var others []*sqlstore.Store
		var refused error
		for len(others) < 12 && refused == nil {
			o, err := sqlstore.OpenPostgres(ctx, server.DSN(), sqlstore.Options{NoMigrate: true})
			if err != nil {
				refused = err
				break
			}
			others = append(others, o)
		}
		wantUnavailable(t, "one too many", refused)
		if err := s.Ping(ctx); err != nil {
			t.Errorf("who is connected: %v", err)
		}
		for _, o := range others {
			_ = o.Close()
		}
		within(t, "there is room again", func() bool { return revocation(ctx, s) == nil })
	})
	t.Run("read only", func(t *testing.T) {
		server.Exec(`ALTER DATABASE postgres SET default_transaction_read_only = on`)
		server.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate'`)
		var err error
		within(t, "writing is refused", func() bool { err = revocation(ctx, s); return err != nil && strings.Contains(err.Error(), "25006") })
		wantUnavailable(t, "read only", err)
		if _, err := s.Application(ctx, "app"); err != nil {
			t.Errorf("reading: %v", err)
		}
		server.Exec(`BEGIN READ WRITE; ALTER DATABASE postgres RESET default_transaction_read_only; COMMIT`)
		server.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate'`)
		within(t, "writing goes on", func() bool { return revocation(ctx, s) == nil })
	})
	t.Run("garbage in one row", func(t *testing.T) {
		good := issued(t, s, 1, 1)[0]
		if err := s.Exec(ctx, `UPDATE application SET attributes = '["not", "an", "object"]'`); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.TokenFacts(ctx, good.Digest, ""); err == nil {
			t.Error("facts were made of garbage")
		}
		if err := s.Exec(ctx, `UPDATE application SET attributes = '{}'`); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.TokenFacts(ctx, good.Digest, ""); err != nil {
			t.Error(err)
		}
	})
	for _, code := range []string{"40P01", "40001"} { // deadlock, serialization
		t.Run("lost a race, "+code, func(t *testing.T) {
			server.Exec(`DROP SEQUENCE IF EXISTS met; CREATE SEQUENCE met`) // counts on after a rollback
			server.Exec(`CREATE OR REPLACE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN IF nextval('met') <= TG_ARGV[1]::int THEN RAISE EXCEPTION 'lost' USING ERRCODE = TG_ARGV[0]; END IF; RETURN NEW; END $$`)
			for times, ok := range map[int]bool{1: true, 1000: false} {
				server.Exec(`SELECT setval('met', 1, false)`)
				server.Exec(fmt.Sprintf(`CREATE OR REPLACE TRIGGER lose BEFORE INSERT ON log_event FOR EACH ROW EXECUTE FUNCTION lose('%s', %d)`, code, times))
				before, err := s.Head(ctx)
				if err != nil {
					t.Fatal(err)
				}
				err = revocation(ctx, s)
				if ok && err != nil {
					t.Errorf("lost %d times: %v, want that it is tried again", times, err)
				} else if !ok {
					wantUnavailable(t, "lost again and again", err)
				}
				after, err := s.Head(ctx)
				if err != nil || (after.Seq-before.Seq == 1) != ok || after.Seq-before.Seq > 1 {
					t.Errorf("lost %d times: head %v, then %v, %v", times, before, after, err)
				}
				if _, err := s.Application(ctx, "app"); err != nil {
					t.Errorf("others: %v", err)
				}
				server.Exec(`DROP TRIGGER lose ON log_event`)
			}
		})
	}
	t.Run("bit flip", bitFlip)
}

type locked struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.to.Write(p) }

// faultClockBehind: what has ended stays so whatever a clock says.
func faultClockBehind(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	s := openPostgres(t, dsn, sqlstore.Options{})
	crashWorld(t, s)
	tokens := issued(t, s, 0, 2)
	revoke(t, s, tokens[:1])
	behind := openPostgres(t, dsn, sqlstore.Options{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	if now, err := behind.RevokeToken(ctx, tokens[0].ID, time.Now().Add(-time.Hour)); err != nil || now {
		t.Errorf("revoked once more: %t, %v", now, err)
	}
	facts, _, err := behind.TokenFacts(ctx, tokens[0].Digest, "")
	if err != nil || facts.Standing().Reason(time.Now().Add(-time.Hour)) != keymanager.ReasonRevoked {
		t.Errorf("a revoked token an hour earlier: %+v, %v", facts, err)
	}
	if n, err := behind.DeleteExpiredTokens(ctx, time.Now().Add(-time.Hour), 10); n != 0 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if err := behind.DeleteClient(ctx, "key"); err != nil {
		t.Fatal(err)
	}
	if facts, _, err := s.TokenFacts(ctx, tokens[1].Digest, ""); err != nil || facts != nil {
		t.Errorf("a token of a deleted client: %+v, %v", facts, err)
	}
}

// faultGivenUp ends the context of issues and revocations at any moment: they
// are done or not begun.
func faultGivenUp(t *testing.T) {
	s := openPostgres(t, storetest.Postgres(t), sqlstore.Options{})
	from := crashWorld(t, s)
	ctx := t.Context()
	answered := map[int]bool{}
	for n := range 200 {
		token := crashToken(n)
		short, cancel := context.WithTimeout(ctx, time.Duration(n*10)*time.Microsecond)
		if s.CreateToken(short, token) != nil {
			if _, err := s.TokenByDigest(ctx, token.Digest); keymanager.IsNotFound(err) {
				// What was given up may still be done by the server.
				if err := s.CreateToken(ctx, token); err != nil && keymanager.KindOf(err) != keymanager.KindConflict {
					t.Fatal(err)
				}
			}
		}
		cancel()
		short, cancel = context.WithTimeout(ctx, time.Duration(n*20)*time.Microsecond)
		if _, err := s.RevokeToken(short, token.ID, time.UnixMilli(1)); err != nil {
			if _, err := s.RevokeToken(ctx, token.ID, time.UnixMilli(1)); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		answered[n] = true
	}
	checkAfterKill(t, s, from, answered)
}
