//go:build !short

package admin_test

import (
	"testing"

	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// What depends on the store, again over Postgres: there a transaction is of no
// use after a refused statement, and others run at the same time.
func TestOnPostgres(t *testing.T) {
	onSQLite := openStore
	t.Cleanup(func() { openStore = onSQLite })
	openStore = func(t *testing.T) (store.Store, error) {
		return sqlstore.OpenPostgres(t.Context(), storetest.Postgres(t), sqlstore.Options{})
	}
	for name, test := range map[string]func(*testing.T){
		"life": TestManagedLife, "keys and secrets": TestKeysAndSecrets, "API keys": TestAPIKeys, "states": TestStates,
		"conditions": TestConditions, "races": TestRaces, "pages": TestPages, "bad input": TestBadInput,
		"apply": TestApply, "apply: problems": TestApplyProblems, "apply: clashes": TestApplyClashes,
		"usage": TestUsage, "bootstrap": TestBootstrap, "bootstrap interrupted": TestBootstrapInterrupted, "bootstrap race": TestBootstrapRace,
	} {
		t.Run(name, test)
	}
}
