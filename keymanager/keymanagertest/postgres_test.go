//go:build !short

package keymanagertest_test

import (
	"testing"

	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/keymanagertest/inprocess"
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
		return inprocess.On(t, s)
	})
}
