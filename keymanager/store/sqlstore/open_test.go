package sqlstore_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/migrations"
)

func TestSQLiteOpenedTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	s, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
	if keymanager.KindOf(err) != keymanager.KindUnavailable || !strings.Contains(err.Error(), path+" is in use by ") {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
	if err != nil {
		t.Fatalf("opened after it was closed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestPending(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	ctx := t.Context()
	want, err := fs.Glob(migrations.SQLite(), "*.sql")
	if err != nil || len(want) == 0 {
		t.Fatal(want, err)
	}
	for _, c := range []struct {
		noMigrate bool
		want      []string
	}{{true, want}, {false, nil}, {true, nil}} {
		s, err := sqlstore.OpenSQLite(ctx, path, sqlstore.Options{NoMigrate: c.noMigrate})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Pending(ctx)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("NoMigrate %t: pending %v, %v; want %v", c.noMigrate, got, err, c.want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewEpoch(t *testing.T) {
	testNewEpoch(t, openSQLite(t))
}

func testNewEpoch(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	ctx := t.Context()
	before, err := s.InTx(ctx, func(s store.Store) error { return s.Append(ctx, store.LogEvent{API: "a"}) })
	if err != nil {
		t.Fatal(err)
	}
	wake, err := s.Wake(ctx)
	if err != nil {
		t.Fatal(err)
	}
	epoch, err := s.NewEpoch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	after, err := s.Head(ctx)
	if err != nil || after.Epoch != epoch || epoch == before.Epoch || after.Seq != before.Seq || before.Reached(after) {
		t.Errorf("head %v, %v; before %v, new epoch %v", after, err, before, epoch)
	}
	<-wake
}

// TestBadRow checks that an API that cannot be read does not take the others
// with it.
func TestBadRow(t *testing.T) {
	var log bytes.Buffer
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "t.db"),
		sqlstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	if err := s.CreateOrganization(ctx, &keymanager.Organization{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a1", "a2", "a3", "a4"} {
		if err := s.CreateAPI(ctx, &keymanager.API{ID: keymanager.APIID(id), Organization: "acme", Name: id, Version: "1", Context: "/" + id}); err != nil {
			t.Fatal(err)
		}
	}
	for id, spec := range map[string]string{"a2": `{"hosts": 7}`, "a4": `not JSON`} {
		if err := s.Exec(ctx, `UPDATE api SET spec = $2 WHERE id = $1`, id, spec); err != nil {
			t.Fatal(err)
		}
	}
	var read []string
	if err := s.AllAPIs(ctx, func(a *keymanager.API) error { read = append(read, string(a.ID)); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read, []string{"a1", "a3"}) {
		t.Errorf("read %v, want a1 and a3", read)
	}
	for _, id := range []string{"a2", "a4"} {
		if !strings.Contains(log.String(), "api="+id) {
			t.Errorf("the log does not name %s: %s", id, log.String())
		}
		if _, err := s.API(ctx, keymanager.APIID(id)); err == nil || keymanager.IsNotFound(err) {
			t.Errorf("%s alone: %v, want an error that is not \"not found\"", id, err)
		}
	}
}

// TestPlans checks that what runs on every request reads by index.
func TestPlans(t *testing.T) {
	s := openSQLite(t)
	for name, query := range sqlstore.HotQueries {
		args := []any{[]byte("x"), "api"}[:strings.Count(query, "$2")+1]
		steps, err := s.Texts(t.Context(), 4, "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			if strings.HasPrefix(step, "SCAN ") && step != "SCAN h" && step != "SCAN reach" { // one row; a subquery's result
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}
