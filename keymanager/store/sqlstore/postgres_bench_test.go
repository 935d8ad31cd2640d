//go:build !short

package sqlstore_test

import (
	"testing"

	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// BenchmarkPostgres does the same on a server with fsync off.
func BenchmarkPostgres(b *testing.B) {
	s, err := sqlstore.OpenPostgres(b.Context(), storetest.Postgres(b), sqlstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	benchmark(b, s)
}
