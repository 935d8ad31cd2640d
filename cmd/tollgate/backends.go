package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

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

// cacheTidied is how often verdicts that have expired go.
const cacheTidied = 10 * time.Second

// verdicts joins what stands between authz and the key manager, first asked
// first:
//
//	LRU → flight → Redis → cap → key manager
//
// Redis is there where it is configured. The second Validator caches nothing
// and shares nothing: every call asks. Where caching is switched off both are
// that one.
func (d *daemon) verdicts(keyManager keymanager.Validator) (cached, uncached keymanager.Validator, err error) {
	cfg := d.cfg.Authz
	limited, err := cache.NewCap(cache.CapOptions{Next: keyManager, Now: time.Now, Calls: cfg.KeyManagerCalls})
	if err != nil {
		return nil, nil, err
	}
	if err := d.metrics.Register(limited); err != nil {
		return nil, nil, err
	}
	if cfg.Cache == "off" {
		return limited, limited, nil
	}
	shared, err := d.redis(limited)
	if err != nil {
		return nil, nil, fmt.Errorf("redis: %w", err)
	}
	flight, err := cache.NewFlight(cache.FlightOptions{Next: shared, Timeout: time.Duration(cfg.KeyManagerTimeout), Logger: d.log})
	if err != nil {
		return nil, nil, err
	}
	lru, err := cache.NewLRU(cache.LRUOptions{
		Next: flight, Now: time.Now,
		Size: cfg.CacheEntries, TTL: time.Duration(cfg.CacheTTL),
		NegativeSize: cfg.NegativeEntries, NegativeTTL: time.Duration(cfg.NegativeTTL),
	})
	if err != nil {
		return nil, nil, err
	}
	d.background = append(d.background, task{"cache", func(ctx context.Context) error {
		return every(ctx, cacheTidied, func() error { lru.Tidy(); return nil })
	}})
	return lru, limited, errors.Join(d.metrics.Register(flight), d.metrics.Register(lru))
}

// redis puts the cache that several authz share before next, if there is one.
func (d *daemon) redis(next keymanager.Validator) (keymanager.Validator, error) {
	cfg := d.cfg.Redis
	if cfg.Mode == "" {
		return next, nil
	}
	keys, err := d.redisKeys()
	if err != nil {
		return nil, err
	}
	secured, err := redisTLS(cfg.TLS)
	if err != nil {
		return nil, err
	}
	client, err := cache.NewRedisClient(cache.RedisServer{
		Mode: cache.RedisMode(cfg.Mode), Addresses: cfg.Addresses, MasterName: cfg.MasterName,
		Username: cfg.Username, Password: string(cfg.Password),
		SentinelUsername: cfg.SentinelUsername, SentinelPassword: string(cfg.SentinelPassword),
		Database: cfg.Database, TLS: secured,
	})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, client)
	level, err := cache.NewRedis(cache.RedisOptions{
		Next: next, Client: client, Keys: keys, Timeout: time.Duration(cfg.Timeout),
		TTL: time.Duration(d.cfg.Authz.CacheTTL), NegativeTTL: time.Duration(d.cfg.Authz.NegativeTTL),
		Now: time.Now, Rand: rand.Reader, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	d.background = append(d.background, task{"redis", level.Run})
	return level, d.metrics.Register(level)
}

// redisKeys reads the key of the values in Redis. The one of the state folder is
// made where it is missing: nothing that it sealed is missed.
func (d *daemon) redisKeys() (*cache.RedisKeys, error) {
	path, named := d.cfg.Redis.KeyFile, d.cfg.Redis.KeyFile != ""
	if !named {
		path = d.state.Path(fileRedisKey)
	}
	content, err := readKeyFile(path, named)
	if errors.Is(err, fs.ErrNotExist) && !named {
		var fresh []byte
		if fresh, err = cache.NewRedisKeys(rand.Reader); err != nil {
			return nil, err
		}
		if err = linkPrivate(path, fresh); err == nil {
			content, err = readKeyFile(path, false) // another process may have been first
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key_file: %w", err)
	}
	keys, err := cache.ParseRedisKeys(content)
	if err != nil {
		return nil, fmt.Errorf("key_file: %s: %w", path, err)
	}
	return keys, nil
}

// redisTLS returns how to speak to Redis; nil = in clear text.
func redisTLS(cfg RedisTLSConfig) (*tls.Config, error) {
	if cfg.CAFile == "" {
		return nil, nil //nolint:nilnil // clear text
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.ServerName, RootCAs: x509.NewCertPool()}
	ca, err := readSmallFile(cfg.CAFile, maxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("tls.ca_file: %w", err)
	}
	if !out.RootCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("tls.ca_file: %s holds no certificate in PEM", cfg.CAFile)
	}
	if cfg.CertFile == "" {
		return out, nil
	}
	if err := checkKeyFile(cfg.KeyFile); err != nil {
		return nil, fmt.Errorf("tls.key_file: %w", err)
	}
	// Read for each connection: a renewed pair is used from the next one on.
	load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		return &pair, err
	}
	if _, err := load(nil); err != nil {
		return nil, fmt.Errorf("tls.cert_file: %s: %w", cfg.CertFile, err)
	}
	out.GetClientCertificate = load
	return out, nil
}
