package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/authz/cache"
	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
)

// openStore opens the system of record, brought up to date.
func openStore(ctx context.Context, cfg *Config, state *State, log *slog.Logger) (store.Store, error) {
	st, err := openSQLStore(ctx, cfg, state, storeOptions(cfg, log))
	if err != nil {
		return nil, err // not a nil *Store in an interface
	}
	return st, nil
}

// openSQLStore opens PostgreSQL where a DSN is configured, else the SQLite file
// in the state folder.
func openSQLStore(ctx context.Context, cfg *Config, state *State, opts sqlstore.Options) (*sqlstore.Store, error) {
	if cfg.Store.DSN != "" {
		st, err := sqlstore.OpenPostgres(ctx, string(cfg.Store.DSN), opts)
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL: %w", err)
		}
		return st, nil
	}
	st, err := sqlstore.OpenSQLite(ctx, state.Path(fileDatabase), opts)
	if err != nil {
		return nil, fmt.Errorf("SQLite: %w", err)
	}
	return st, nil
}

func storeOptions(cfg *Config, log *slog.Logger) sqlstore.Options {
	return sqlstore.Options{Logger: log, MaxConns: cfg.Store.MaxConnections}
}

// verdicts joins what stands between authz and the key manager, first asked
// first:
//
//	LRU → flight → cap → key manager
//
// A cache that many gateways share has its place between flight and cap. The
// second Validator caches nothing and shares nothing: every call asks. Where
// caching is switched off both are that one.
func verdicts(cfg AuthzConfig, keyManager keymanager.Validator, now func() time.Time, log *slog.Logger, metrics prometheus.Registerer) (cached, uncached keymanager.Validator, err error) {
	limited, err := cache.NewCap(cache.CapOptions{Next: keyManager, Now: now, Calls: cfg.KeyManagerCalls})
	if err != nil {
		return nil, nil, err
	}
	if err := metrics.Register(limited); err != nil {
		return nil, nil, err
	}
	if cfg.Cache == "off" {
		return limited, limited, nil
	}
	flight, err := cache.NewFlight(cache.FlightOptions{Next: limited, Timeout: time.Duration(cfg.KeyManagerTimeout), Logger: log})
	if err != nil {
		return nil, nil, err
	}
	lru, err := cache.NewLRU(cache.LRUOptions{
		Next: flight, Now: now,
		Size: cfg.CacheEntries, TTL: time.Duration(cfg.CacheTTL),
		NegativeSize: cfg.NegativeEntries, NegativeTTL: time.Duration(cfg.NegativeTTL),
	})
	if err != nil {
		return nil, nil, err
	}
	return lru, limited, errors.Join(metrics.Register(flight), metrics.Register(lru))
}
