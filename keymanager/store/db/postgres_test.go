//go:build !short

package db_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tollgate/keymanager/store/db"
	"tollgate/keymanager/store/storetest"
)

func openPostgres(t *testing.T, dsn string, o db.PostgresOptions) db.DB {
	t.Helper()
	d, err := db.Postgres(t.Context(), dsn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func exec(t *testing.T, d db.Q, query string, args ...any) {
	t.Helper()
	if _, err := d.Exec(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresMigrate(t *testing.T) {
	db.CheckMigrate(t, openPostgres(t, storetest.Postgres(t), db.PostgresOptions{}))
}

func TestPostgresRefusesToOpen(t *testing.T) {
	dsn := storetest.Postgres(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for what, c := range map[string]struct {
		dsn  string
		want string
		is   error
	}{
		"not an address":      {"postgres://u:hunter2@host:port/x", "cannot be read", nil},
		"bad key=value":       {"host=x password=hunter2 port=y", "cannot be read", nil},
		"missing schema":      {dsn[:strings.Index(dsn, "search_path=")] + "search_path=not_there", "search_path", nil},
		"no durable commits":  {dsn + "&synchronous_commit=off", "synchronous_commit", nil},
		"nobody listens":      {"postgres://u:hunter2@127.0.0.1:1/x", "", db.ErrUnavailable},
		"a server that hangs": {"postgres://u:hunter2@" + silent.Addr().String() + "/x?connect_timeout=1", "", db.ErrUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			d, err := db.Postgres(t.Context(), c.dsn, db.PostgresOptions{Timeout: time.Second})
			if err == nil {
				d.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// TestPostgresDeadlines checks that nothing waits for ever, though no context
// here has a deadline.
func TestPostgresDeadlines(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	d := openPostgres(t, dsn, db.PostgresOptions{Timeout: 100 * time.Millisecond})
	small := openPostgres(t, dsn, db.PostgresOptions{MaxConns: 1, Timeout: 100 * time.Millisecond})
	exec(t, d, "CREATE TABLE item (id INT PRIMARY KEY)")
	exec(t, d, "INSERT INTO item VALUES (1)")
	const sleep = "SELECT pg_sleep(600)"
	_, execErr := d.Exec(ctx, sleep)
	inTx := d.InTx(ctx, func(tx db.Tx) error { _, err := tx.Exec(ctx, sleep); return err })
	atCommit := d.InTx(ctx, func(tx db.Tx) error { tx.AtCommit(nil, sleep); return nil })
	var locked, noConn error
	held := small.InTx(ctx, func(db.Tx) error {
		noConn = small.InTx(ctx, func(db.Tx) error { return nil })
		return nil
	})
	rowHeld := d.InTx(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM item"); err != nil {
			return err
		}
		_, locked = d.Exec(ctx, "DELETE FROM item")
		return nil
	})
	if held != nil || rowHeld != nil {
		t.Error(held, rowHeld)
	}
	for what, err := range map[string]error{
		"Exec": execErr, "InTx": inTx, "AtCommit": atCommit, "no connection free": noConn, "a row that is locked": locked,
		"QueryRow": d.QueryRow(ctx, sleep).Scan(new(string)),
		"Query":    d.Query(ctx, func(db.Row) error { return nil }, sleep),
	} {
		if !errors.Is(err, db.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", what, err)
		}
	}
	if err := d.Ping(ctx); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// TestPostgresRetries checks that a transaction that lost a race runs again, a
// few times, also when fn makes its own error of it.
func TestPostgresRetries(t *testing.T) {
	ctx := t.Context()
	d := openPostgres(t, storetest.Postgres(t), db.PostgresOptions{})
	exec(t, d, `CREATE FUNCTION lose(code TEXT) RETURNS INT LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = code; END $$`)
	for _, c := range []struct {
		code     string
		failures int
		runs     int
		ok       bool
	}{{"40001", 2, 3, true}, {"40P01", 1, 2, true}, {"40001", 99, 5, false}, {"22012", 1, 1, false}} {
		runs := 0
		err := d.InTx(ctx, func(tx db.Tx) error {
			if runs++; runs > c.failures {
				return nil
			}
			if _, err := tx.Exec(ctx, "SELECT lose($1)", c.code); err != nil {
				return errors.New("could not be done")
			}
			return nil
		})
		if runs != c.runs || (err == nil) != c.ok {
			t.Errorf("%s, %d failures: %d runs, %v", c.code, c.failures, runs, err)
		}
	}

	exec(t, d, "CREATE TABLE item (id INT PRIMARY KEY, n INT NOT NULL)")
	exec(t, d, "INSERT INTO item VALUES (1, 0), (2, 0)")
	var both, done sync.WaitGroup
	both.Add(2)
	for _, order := range [][2]int{{1, 2}, {2, 1}} { // a deadlock
		done.Go(func() {
			arrived := sync.OnceFunc(both.Done)
			err := d.InTx(ctx, func(tx db.Tx) error {
				for _, id := range order {
					if _, err := tx.Exec(ctx, "UPDATE item SET n = n + 1 WHERE id = $1", id); err != nil {
						return err
					}
					arrived()
					both.Wait()
				}
				return nil
			})
			if err != nil && !errors.Is(err, db.ErrUnavailable) { // lock_timeout may come first
				t.Error(err)
			}
		})
	}
	done.Wait()
	if err := d.Ping(ctx); err != nil {
		t.Error(err)
	}
}

// TestPostgresLostConnection checks that a transaction whose connection dies
// is not known, and that the pool goes on.
func TestPostgresLostConnection(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	d := openPostgres(t, dsn, db.PostgresOptions{MaxConns: 1})
	killer := openPostgres(t, dsn, db.PostgresOptions{})
	exec(t, d, "CREATE TABLE item (id INT PRIMARY KEY)")
	kill := func(tx db.Tx) {
		t.Helper()
		var pid int
		if err := tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Error(err)
		}
		exec(t, killer, "SELECT pg_terminate_backend($1, 30000)", pid)
	}
	for what, fn := range map[string]func(tx db.Tx) error{
		"in fn": func(tx db.Tx) error {
			kill(tx)
			_, err := tx.Exec(ctx, "INSERT INTO item VALUES (1)")
			return err
		},
		"at commit": func(tx db.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO item VALUES (2)")
			tx.AtCommit(nil, "INSERT INTO item VALUES (3)")
			kill(tx)
			return err
		},
		"in fn, ignored": func(tx db.Tx) error {
			kill(tx)
			_, _ = tx.Exec(ctx, "INSERT INTO item VALUES (4)")
			return nil
		},
	} {
		if err := d.InTx(ctx, fn); !errors.Is(err, db.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", what, err)
		}
	}
	var n int
	if err := d.QueryRow(ctx, "SELECT count(*) FROM item").Scan(&n); err != nil || n != 0 {
		t.Errorf("afterwards: %d rows, %v", n, err)
	}
}

// TestPostgresStalledTransaction checks that a process that stops in the middle
// of a transaction does not keep others from what it has locked.
func TestPostgresStalledTransaction(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	stalled := openPostgres(t, dsn+"&idle_in_transaction_session_timeout=50ms", db.PostgresOptions{})
	other := openPostgres(t, dsn, db.PostgresOptions{})
	exec(t, other, "CREATE TABLE head (seq INT NOT NULL)")
	exec(t, other, "INSERT INTO head VALUES (0)")
	const raise = "UPDATE head SET seq = seq + 1"

	// What is queued for the commit is not locked before it.
	err := other.InTx(ctx, func(tx db.Tx) error {
		tx.AtCommit(nil, raise)
		return other.InTx(ctx, func(tx db.Tx) error { tx.AtCommit(nil, raise); return nil })
	})
	if err != nil {
		t.Errorf("two transactions at once: %v", err)
	}

	// What is locked earlier is given up by the server.
	err = stalled.InTx(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(ctx, raise); err != nil {
			return err
		}
		for deadline := time.Now().Add(30 * time.Second); ; {
			_, err := other.Exec(ctx, raise)
			if err == nil {
				return nil
			}
			if !errors.Is(err, db.ErrUnavailable) || time.Now().After(deadline) {
				t.Errorf("behind a stalled transaction: %v", err)
				return err
			}
		}
	})
	if !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("the stalled transaction: %v, want ErrUnavailable", err)
	}
	var seq int
	if err := other.QueryRow(ctx, "SELECT seq FROM head").Scan(&seq); err != nil || seq != 3 {
		t.Errorf("head %d, %v; want 3", seq, err)
	}
}

// TestPostgresListen checks that wakes come from other connections, also after
// the listening one was lost.
func TestPostgresListen(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dsn := storetest.Postgres(t)
	d := openPostgres(t, dsn, db.PostgresOptions{})
	other := openPostgres(t, dsn, db.PostgresOptions{})
	var wakes atomic.Int64
	ended := make(chan error)
	go func() { ended <- d.Listen(ctx, func() { wakes.Add(1) }) }()
	grown := func(what string, try func()) {
		t.Helper()
		from := wakes.Load()
		for deadline := time.Now().Add(30 * time.Second); wakes.Load() == from; time.Sleep(time.Millisecond) {
			try()
			if time.Now().After(deadline) {
				t.Fatalf("no wake: %s", what)
			}
		}
	}
	notify := func() {
		if err := other.InTx(ctx, func(tx db.Tx) error { tx.NotifyAtCommit(); return nil }); err != nil {
			t.Error(err)
		}
	}
	grown("for what was missed before it listened", func() {})
	grown("after a commit", notify)
	killed := 0
	grown("for what was missed meanwhile", func() {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var schema string
		if err := conn.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
			t.Fatal(err)
		}
		tag, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN "tollgate_log_' || $1 || '"'`, schema)
		if err != nil {
			t.Fatal(err)
		}
		killed += int(tag.RowsAffected())
	})
	if killed == 0 {
		t.Error("the listening connection was not found")
	}
	grown("after a commit, later", notify)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Listen ended with %v", err)
	}
}

// TestPostgresMigrateTogether has several processes start on an empty schema.
func TestPostgresMigrateTogether(t *testing.T) {
	dsn := storetest.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		d := openPostgres(t, dsn, db.PostgresOptions{})
		wg.Go(func() {
			if err := d.Migrate(t.Context(), db.TestMigrations); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
