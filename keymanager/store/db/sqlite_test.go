package db

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
)

// holdEnv makes this test binary open a database and wait to be killed.
const holdEnv = "TOLLGATE_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		hold(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func hold(path string) {
	if _, err := SQLite(context.Background(), path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	select {}
}

var testMigrations = fstest.MapFS{
	"0001_item.sql": {Data: []byte("-- +goose Up\nCREATE TABLE item (id TEXT PRIMARY KEY, n BIGINT NOT NULL CHECK (n >= 0));\n")},
	"0002_part.sql": {Data: []byte("-- +goose Up\nCREATE TABLE part (id TEXT PRIMARY KEY, item TEXT NOT NULL REFERENCES item (id));\n")},
}

func openSQLite(t *testing.T, path string) *sqliteDB {
	t.Helper()
	d, err := SQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.(*sqliteDB)
}

func TestSQLiteSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with a space?and#other%20signs.db")
	d := openSQLite(t, path)
	for _, c := range []struct{ pragma, write, read string }{
		{"journal_mode", "wal", "wal"},
		{"synchronous", "2", ""}, // FULL
		{"foreign_keys", "1", ""},
		{"busy_timeout", "5000", "5000"},
		{"query_only", "0", "1"},
	} {
		var write, read string
		if err := d.InTx(t.Context(), func(tx Tx) error {
			return tx.QueryRow(t.Context(), "PRAGMA "+c.pragma).Scan(&write)
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.QueryRow(t.Context(), "PRAGMA "+c.pragma).Scan(&read); err != nil {
			t.Fatal(err)
		}
		if write != c.write || c.read != "" && read != c.read {
			t.Errorf("%s: writer %s, readers %s; want %s, %s", c.pragma, write, read, c.write, c.read)
		}
	}
	for _, name := range []string{path, path + "-wal", path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(name), info.Mode().Perm())
		}
	}
	if _, err := SQLite(t.Context(), filepath.Join(t.TempDir(), "no", "such", "folder.db")); err == nil {
		t.Error("opened a database in a folder that does not exist")
	}
}

// TestSQLiteIsOpenedOnce checks that a second process, and a second opening in
// this one, is told who has the database, and that a killed process lets go.
func TestSQLiteIsOpenedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdEnv+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = SQLite(t.Context(), path)
	want := fmt.Sprintf("is in use by process %d", child.Process.Pid)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one that says %q", err, want)
	}
	_ = child.Process.Kill()
	_ = child.Wait() // it was killed

	d := openSQLite(t, path)
	if _, err := SQLite(t.Context(), path); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "by this process already") {
		t.Errorf("opened twice in one process: %v", err)
	}
	if err := d.Ping(t.Context()); err != nil {
		t.Errorf("after another attempt to open it: %v", err)
	}
}

func TestSQLiteMigrate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	d := openSQLite(t, path)
	checkMigrate(t, d)
}

// checkMigrate holds for both engines.
func checkMigrate(t *testing.T, d DB) {
	t.Helper()
	ctx := t.Context()
	pending := func(want ...string) {
		t.Helper()
		got, err := d.Pending(ctx, testMigrations)
		if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("pending: %v, %v; want %v", got, err, want)
		}
	}
	pending("0001_item.sql", "0002_part.sql")
	if err := d.Migrate(ctx, fstest.MapFS{"0001_item.sql": testMigrations["0001_item.sql"]}); err != nil {
		t.Fatal(err)
	}
	pending("0002_part.sql")
	broken := fstest.MapFS{"0001_item.sql": testMigrations["0001_item.sql"],
		"0002_part.sql": {Data: []byte("-- +goose Up\nCREATE TABLE half (id TEXT);\nCREATE TABLE ;\n")}}
	if err := d.Migrate(ctx, broken); err == nil {
		t.Error("a broken migration was applied")
	}
	if err := d.QueryRow(ctx, "SELECT id FROM half").Scan(new(string)); err == nil || errors.Is(err, ErrNoRows) {
		t.Errorf("half of a broken migration is there: %v", err)
	}
	for range 2 { // the second does nothing
		if err := d.Migrate(ctx, testMigrations); err != nil {
			t.Fatal(err)
		}
	}
	pending()
	checkStatements(t, d)
	checkTransactions(t, d)
}

func checkStatements(t *testing.T, d DB) {
	t.Helper()
	ctx := t.Context()
	insert := func(id string, n int) error {
		_, err := d.Exec(ctx, "INSERT INTO item (id, n) VALUES ($2, $1)", n, id) // placeholders by number
		return err
	}
	for _, c := range []struct {
		id   string
		n    int
		want error
	}{{"a", 1, nil}, {"b", 2, nil}, {"a", 3, ErrConflict}, {"c", -1, ErrValue}} {
		if err := insert(c.id, c.n); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("insert %s, %d: %v, want %v", c.id, c.n, err, c.want)
		}
	}
	if _, err := d.Exec(ctx, "INSERT INTO part (id, item) VALUES ('p', 'nothing')"); !errors.Is(err, ErrReference) {
		t.Errorf("reference to nothing: %v", err)
	}
	if n, err := d.Exec(ctx, "UPDATE item SET n = n + 1"); n != 2 || err != nil {
		t.Errorf("update: %d, %v", n, err)
	}
	if err := d.QueryRow(ctx, "SELECT n FROM item WHERE id = $1", "z").Scan(new(int)); !errors.Is(err, ErrNoRows) {
		t.Errorf("no row: %v", err)
	}
	stop := errors.New("enough")
	rows := 0
	err := d.Query(ctx, func(r Row) error {
		rows++
		return stop
	}, "SELECT id FROM item ORDER BY id")
	if rows != 1 || !errors.Is(err, stop) {
		t.Errorf("stopped after %d rows with %v", rows, err)
	}
	if err := d.Query(ctx, func(r Row) error { return r.Scan(new(int), new(int)) }, "SELECT id FROM item"); err == nil {
		t.Error("scanned one column into two")
	}
	if err := d.QueryRow(ctx, "SELECT nonsense FROM item").Scan(new(int)); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("nonsense: %v, want an error of no class", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, execErr := d.Exec(ended, "UPDATE item SET n = n")
	for what, err := range map[string]error{
		"Exec":     execErr,
		"QueryRow": d.QueryRow(ended, "SELECT n FROM item").Scan(new(int)),
		"Query":    d.Query(ended, func(Row) error { return nil }, "SELECT n FROM item"),
		"InTx":     d.InTx(ended, func(Tx) error { return nil }),
	} {
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s after its context ended: %v", what, err)
		}
	}
	if err := d.Ping(ctx); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// TestSQLiteWriterSurvivesItsCallers: whenever the context of a write ends, the
// next write works. All writes share one connection, so one caller who hangs up
// at the wrong moment must not leave it in a transaction.
func TestSQLiteWriterSurvivesItsCallers(t *testing.T) {
	d := openSQLite(t, filepath.Join(t.TempDir(), "test.db"))
	if err := d.Migrate(t.Context(), testMigrations); err != nil {
		t.Fatal(err)
	}
	write := func(ctx context.Context) error {
		_, err := d.Exec(ctx, "INSERT INTO item (id, n) VALUES ('a', 1) ON CONFLICT (id) DO UPDATE SET n = item.n + 1")
		return err
	}
	for i := range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		hungUp := make(chan struct{})
		go func() {
			defer close(hungUp)
			time.Sleep(rand.N(200 * time.Microsecond)) // at any moment of the write
			cancel()
		}()
		if err := write(ctx); err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatalf("write %d, given up: %v", i, err)
		}
		<-hungUp
	}
	if err := write(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func checkTransactions(t *testing.T, d DB) {
	t.Helper()
	ctx := t.Context()
	value := func() (n int) {
		t.Helper()
		if err := d.QueryRow(ctx, "SELECT n FROM item WHERE id = 'a'").Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	set := func(tx Tx, n int) {
		t.Helper()
		if _, err := tx.Exec(ctx, "UPDATE item SET n = $1 WHERE id = 'a'", n); err != nil {
			t.Error(err)
		}
	}
	stop := errors.New("changed my mind")
	if err := d.InTx(ctx, func(tx Tx) error { set(tx, 100); return stop }); !errors.Is(err, stop) || value() == 100 {
		t.Errorf("error of fn: %v, value %d", err, value())
	}
	func() {
		defer func() { _ = recover() }()
		_ = d.InTx(ctx, func(tx Tx) error { set(tx, 101); panic("boom") })
	}()
	if value() == 101 {
		t.Error("a panic was committed")
	}
	err := d.InTx(ctx, func(tx Tx) error {
		set(tx, 102)
		_, _ = tx.Exec(ctx, "INSERT INTO item (id, n) VALUES ('a', 1)")
		return nil
	})
	if !errors.Is(err, ErrConflict) || value() == 102 {
		t.Errorf("a failed statement, ignored: %v, value %d", err, value())
	}
	if err := d.InTx(ctx, func(tx Tx) error {
		err := tx.QueryRow(ctx, "SELECT n FROM item WHERE id = 'z'").Scan(new(int))
		set(tx, 103)
		if !errors.Is(err, ErrNoRows) {
			t.Errorf("no row: %v", err)
		}
		return nil
	}); err != nil || value() != 103 {
		t.Errorf("an empty result fails nothing: %v, value %d", err, value())
	}

	// What is queued runs in order, after fn; if it fails nothing is committed.
	var got int
	if err := d.InTx(ctx, func(tx Tx) error {
		tx.AtCommit(nil, "UPDATE item SET n = n * 2 WHERE id = 'a'")
		tx.AtCommit([]any{&got}, "UPDATE item SET n = n + $1 WHERE id = 'a' RETURNING n", 1)
		tx.NotifyAtCommit()
		set(tx, 10)
		return nil
	}); err != nil || got != 21 || value() != 21 {
		t.Errorf("at commit: %v, read %d, value %d; want 21", err, got, value())
	}
	for what, query := range map[string]string{
		"a conflict": "INSERT INTO item (id, n) VALUES ('a', 1)",
		"nonsense":   "UPDATE nothing SET n = 1",
	} {
		if err := d.InTx(ctx, func(tx Tx) error {
			set(tx, 30)
			tx.AtCommit(nil, query)
			return nil
		}); err == nil || value() == 30 {
			t.Errorf("%s at commit: %v, value %d", what, err, value())
		}
	}
	short, cancel := context.WithCancel(ctx)
	err = d.InTx(short, func(tx Tx) error {
		set(tx, 40)
		cancel()
		_, err := tx.Exec(short, "UPDATE item SET n = 41 WHERE id = 'a'")
		return err
	})
	if !errors.Is(err, ErrUnavailable) || value() >= 40 {
		t.Errorf("context ended in the middle: %v, value %d", err, value())
	}
	if err := d.InTx(ctx, func(tx Tx) error { set(tx, 50); return nil }); err != nil || value() != 50 {
		t.Errorf("after all that: %v, value %d", err, value())
	}
}

// TestSQLiteWaitsForTheWriter checks that whoever waits for the one writer
// stops waiting when its context ends, and that readers do not wait.
func TestSQLiteWaitsForTheWriter(t *testing.T) {
	d := openSQLite(t, filepath.Join(t.TempDir(), "t.db"))
	if err := d.Migrate(t.Context(), testMigrations); err != nil {
		t.Fatal(err)
	}
	err := d.InTx(t.Context(), func(tx Tx) error {
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := d.Exec(short, "DELETE FROM item"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second writer: %v", err)
		}
		return d.QueryRow(t.Context(), "SELECT count(*) FROM item").Scan(new(int))
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSQLiteDeadline: what runs on a context without a deadline ends all the
// same.
func TestSQLiteDeadline(t *testing.T) {
	t.Parallel()
	d := openSQLite(t, filepath.Join(t.TempDir(), "t.db"))
	const endless = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n`
	ended := make(chan error, 2)
	go func() { ended <- d.QueryRow(t.Context(), endless).Scan(new(int64)) }()
	go func() {
		ended <- d.InTx(t.Context(), func(tx Tx) error {
			_, err := tx.Exec(t.Context(), endless)
			return err
		})
	}()
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(10 * DefaultTimeout):
			t.Fatal("does not end")
		}
	}
	if err := d.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
