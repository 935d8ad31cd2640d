//go:build !short

package keymanagertest_test

import (
	"testing"

	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// TestInProcessOnPostgres runs the contract over the real services and
// PostgreSQL.
func TestInProcessOnPostgres(t *testing.T) {
	keymanagertest.Run(t, func(t *testing.T) *keymanagertest.Subject {
		s, err := sqlstore.OpenPostgres(t.Context(), storetest.Postgres(t), sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return inProcess(t, s, func(t testing.TB) {
			if _, err := s.NewEpoch(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
}
