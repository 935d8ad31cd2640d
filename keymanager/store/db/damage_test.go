//go:build !short

package db_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"tollgate/keymanager/store/db"
	"tollgate/keymanager/store/storetest"
)

// TestPostgresTellsDamage: what the server says of its own data is an error
// that does not pass, and is told.
func TestPostgresTellsDamage(t *testing.T) {
	var text bytes.Buffer
	d := openPostgres(t, storetest.Postgres(t), db.PostgresOptions{Logger: slog.New(slog.NewTextHandler(&text, nil))})
	exec(t, d, `CREATE FUNCTION fail(code TEXT) RETURNS INT LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'invalid page' USING ERRCODE = code; END $$`)
	told := func() int { return strings.Count(text.String(), "the database finds its data damaged") }
	for _, c := range []struct {
		code string
		told int
	}{{"22012", 0}, {"XX000", 0}, {"XX001", 1}, {"XX002", 2}, {"22012", 2}} {
		if err := d.QueryRow(t.Context(), "SELECT fail($1)", c.code).Scan(new(int)); err == nil {
			t.Errorf("%s is no error", c.code)
		}
		if told() != c.told {
			t.Errorf("after %s: told %d times, want %d", c.code, told(), c.told)
		}
	}
}
