package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
)

// A database that was restored, and not made safe, is refused by the key manager
// that has seen more of it.
func TestRestoredDatabaseIsRefused(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &daemon{state: &State{Dir: dir}, log: slog.New(slog.DiscardHandler), system: &system{}}
	path, backup := d.state.Path(fileDatabase), filepath.Join(dir, "backup")
	open := func(path string) *sqlstore.Store {
		t.Helper()
		st, err := sqlstore.OpenSQLite(ctx, path, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		return st
	}
	revoke := func(st store.Store) {
		t.Helper()
		if _, err := st.InTx(ctx, func(tx store.Store) error { return tx.Append(ctx, store.LogEvent{Stale: &keymanager.Stale{User: "u"}}) }); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, st store.Store, refused string) {
		t.Helper()
		err := checkRemembered(ctx, st, d.state.Path(fileLog))
		if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			t.Errorf("%s: %v, want %q", what, err, refused)
		}
	}
	st := open(path)
	check("nothing remembered", st, "")
	revoke(st)
	if err := sqlstore.BackupSQLite(ctx, path, backup); err != nil {
		t.Fatal(err)
	}
	revoke(st)
	d.store = st
	remembering, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- d.remember(remembering) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(d.state.Path(fileLog)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is written down")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	check("as it was", st, "")
	revoke(st)
	check("further", st, "")

	restored := open(backup)
	check("restored", restored, "tollgate migrate restored")
	written, err := os.ReadFile(d.state.Path(fileLog))
	if err != nil {
		t.Fatal(err)
	}
	d.store = restored // as after a fail-over, while the process runs
	if err := d.remember(ctx); err == nil || !strings.Contains(err.Error(), "tollgate migrate restored") {
		t.Errorf("while it runs: %v", err)
	}
	if now, err := os.ReadFile(d.state.Path(fileLog)); err != nil || !bytes.Equal(now, written) {
		t.Errorf("what was written down is %s, and was %s (%v)", now, written, err)
	}
	if _, err := restored.NewEpoch(ctx); err != nil {
		t.Fatal(err)
	}
	check("made safe", restored, "")
	check("another database", open(filepath.Join(dir, "new")), "")

	if err := os.WriteFile(d.state.Path(fileLog), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("damaged", st, "how far the log was")
}
