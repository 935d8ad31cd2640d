//go:build !short

package db_test

import (
	"context"
	"errors"
	"testing"

	"tollgate/keymanager/store/db"
	"tollgate/keymanager/store/storetest"
)

type rankKey struct{}

// TestPostgresGate: whatever the others have taken, what is urgent finds a
// connection, and who is patient leaves some to those who are not.
func TestPostgresGate(t *testing.T) {
	rank := func(ctx context.Context) int { r, _ := ctx.Value(rankKey{}).(int); return r }
	d := openPostgres(t, storetest.Postgres(t)+"&idle_in_transaction_session_timeout=60s", db.PostgresOptions{MaxConns: 8, Rank: rank})
	ranked := func(r int) context.Context { return context.WithValue(t.Context(), rankKey{}, r) }
	hold := func(ctx context.Context, n int, then func()) { // n transactions that stay open
		for range n {
			next := then
			then = func() {
				if err := d.InTx(ctx, func(db.Tx) error { next(); return nil }); err != nil {
					t.Error(err)
				}
			}
		}
		then()
	}
	try := func(r int) map[string]error {
		ctx := ranked(r)
		_, exec := d.Exec(ctx, "SELECT 1")
		return map[string]error{
			"Exec":     exec,
			"QueryRow": d.QueryRow(ctx, "SELECT 1").Scan(new(int)),
			"Query":    d.Query(ctx, func(db.Row) error { return nil }, "SELECT 1"),
			"InTx":     d.InTx(ctx, func(db.Tx) error { return nil }),
		}
	}
	check := func(what string, r int, enter bool) {
		t.Helper()
		for call, err := range try(r) {
			if enter && err != nil || !enter && !errors.Is(err, db.ErrUnavailable) {
				t.Errorf("%s, %s of rank %d: %v; may enter: %t", what, call, r, err, enter)
			}
		}
	}
	hold(ranked(0), 6, func() { // all that is not reserved
		check("full", -1, false)
		check("full", 0, false)
		check("full of others", 1, true)
		hold(ranked(1), 1, func() { // a flood of what is urgent
			check("full", 1, false)
			check("full", 2, true)
		})
	})
	hold(ranked(-1), 3, func() {
		check("patient", -1, false)
		check("patient", 0, true)
	})
	hold(ranked(1), 7, func() {
		check("full of urgent ones", 0, false)
		check("full of urgent ones", 1, false)
		check("full of urgent ones", 2, true)
	})
	for rank := -1; rank <= 2; rank++ {
		check("empty", rank, true)
	}
}
