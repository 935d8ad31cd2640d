//go:build !short

package main

import (
	"testing"

	"tollgate/authz/cache/redistest"
	"tollgate/keymanager/store/storetest"
)

// otherStores are the backends that need a server.
var otherStores = map[string]func(*testing.T) StoreConfig{
	"PostgreSQL": func(t *testing.T) StoreConfig { return StoreConfig{DSN: Secret(storetest.Postgres(t))} },
}

// otherCaches are those that need a server.
var otherCaches = map[string]func(*testing.T) RedisConfig{
	"Redis": func(t *testing.T) RedisConfig {
		cfg := defaultConfig().Redis
		cfg.Mode, cfg.Addresses = "single", []string{redistest.Start(t, redistest.Options{}).Addr}
		return cfg
	},
}
