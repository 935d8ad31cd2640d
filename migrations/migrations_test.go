package migrations_test

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tollgate/migrations"
)

func TestSameNumbersAndNames(t *testing.T) {
	sqlite, postgres := names(t, migrations.SQLite()), names(t, migrations.Postgres())
	if !slices.Equal(sqlite, postgres) {
		t.Errorf("SQLite has %v, Postgres %v", sqlite, postgres)
	}
	name := regexp.MustCompile(`^\d{4}_[a-z_]+\.sql$`)
	for i, n := range sqlite {
		if !name.MatchString(n) {
			t.Errorf("%s: want NNNN_name.sql", n)
		}
		if i > 0 && n[:4] == sqlite[i-1][:4] {
			t.Errorf("%s and %s have one number", sqlite[i-1], n)
		}
	}
}

// TestStrict checks that SQLite holds every column to its type, as Postgres
// does.
func TestStrict(t *testing.T) {
	for _, n := range names(t, migrations.SQLite()) {
		text, err := fs.ReadFile(migrations.SQLite(), n)
		if err != nil {
			t.Fatal(err)
		}
		tables, strict := strings.Count(string(text), "CREATE TABLE "), strings.Count(string(text), ") STRICT;")
		if tables != strict {
			t.Errorf("%s: %d tables, %d of them STRICT", n, tables, strict)
		}
	}
}

func names(t *testing.T, f fs.FS) []string {
	t.Helper()
	names, err := fs.Glob(f, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("migrations: %v, %v", names, err)
	}
	return names
}
