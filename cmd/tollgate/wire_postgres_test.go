//go:build !short

package main

import (
	"testing"

	"tollgate/keymanager/store/storetest"
)

// otherStores are the backends that need a server.
var otherStores = map[string]func(*testing.T) StoreConfig{
	"PostgreSQL": func(t *testing.T) StoreConfig { return StoreConfig{DSN: Secret(storetest.Postgres(t))} },
}
