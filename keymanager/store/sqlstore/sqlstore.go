// Package sqlstore is the store of the key manager in SQL: one repository code
// and one SQL text for SQLite and for Postgres, one file for each noun. What
// the two engines do differently is in package db below it.
package sqlstore

import (
	"context"
	"crypto/rand"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
	"tollgate/migrations"
)

// Options of a Store. The zero value serves.
type Options struct {
	// Now is the clock of CreatedAt, UpdatedAt and of Dead entries; the system's
	// if nil.
	Now func() time.Time
	// Rand makes epochs; crypto/rand if nil.
	Rand io.Reader
	// Logger is told of stored rows that cannot be read, and of lost
	// connections; nil discards.
	Logger *slog.Logger
	// NoMigrate opens the database as it is; see Store.Pending.
	NoMigrate bool
	// MaxConns bounds the connections to Postgres; 16 if 0. One more listens.
	MaxConns int
	// StatementTimeout bounds each statement on Postgres whose context has no
	// deadline; db.DefaultTimeout if 0.
	StatementTimeout time.Duration
	// Wrap, if set, stands between the store and its migrated database: tests
	// have statements fail there.
	Wrap func(db.DB) db.DB
}

// Store implements store.Store.
type Store struct {
	shared
	q  db.Q // the database, or the transaction
	tx *tx  // nil outside of a transaction
}

// shared is what a Store and those handed to InTx have in common.
type shared struct {
	db         db.DB
	migrations fs.FS
	now        func() time.Time
	rand       io.Reader
	log        *slog.Logger
	wakes      *wakes
	postgres   bool // other processes may have the database open
}

var _ store.Store = (*Store)(nil)

// OpenSQLite opens the database file at path, creating it if it is missing,
// and brings it up to the latest migration. Only one process can have it open:
// for the next one it is KindUnavailable, with the process that has it.
func OpenSQLite(ctx context.Context, path string, o Options) (*Store, error) {
	d, err := db.SQLite(ctx, path)
	if err != nil {
		return nil, failure(err)
	}
	return open(ctx, d, migrations.SQLite(), o, false)
}

// BackupSQLite copies the database file at path, which another process may have
// open, into a new file: all of it as of one moment.
func BackupSQLite(ctx context.Context, path, to string) error {
	return failure(db.BackupSQLite(ctx, path, to))
}

// OpenPostgres opens the database at dsn, in the schema that its search_path
// names, and brings it up to the latest migration. Any number of processes can
// have it open, and share the migrating: one does it, the others wait.
func OpenPostgres(ctx context.Context, dsn string, o Options) (*Store, error) {
	d, err := db.Postgres(ctx, dsn, db.PostgresOptions{
		MaxConns: o.MaxConns, Timeout: o.StatementTimeout, Logger: o.Logger,
		Rank: func(ctx context.Context) int { return int(store.UrgencyOf(ctx)) },
	})
	if err != nil {
		return nil, failure(err)
	}
	return open(ctx, d, migrations.Postgres(), o, true)
}

func open(ctx context.Context, d db.DB, m fs.FS, o Options, postgres bool) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if !o.NoMigrate {
		if err := d.Migrate(ctx, m); err != nil {
			_ = d.Close() // the first error says more
			return nil, failure(err)
		}
	}
	if o.Wrap != nil {
		d = o.Wrap(d)
	}
	s := shared{db: d, migrations: m, now: o.Now, rand: o.Rand, log: o.Logger, postgres: postgres}
	s.wakes = newWakes(d.Listen, o.Logger)
	return &Store{shared: s, q: d}, nil
}

// Pending returns the names of the migrations that the database lacks.
func (s *Store) Pending(ctx context.Context) ([]string, error) {
	names, err := s.db.Pending(ctx, s.migrations)
	return names, failure(err)
}

// DatabaseTime reads the clock of Postgres. SQLite is in this process, and has
// its clock.
func (s *Store) DatabaseTime(ctx context.Context) (t time.Time, err error) {
	if !s.postgres {
		return s.now(), nil
	}
	err = s.q.QueryRow(ctx, `SELECT `+databaseMillis).Scan(millis{&t})
	return t, failure(err)
}

// lockingClause returns FOR SHARE and the like where there can be other
// writers; SQLite has one at a time.
func (s *Store) lockingClause(clause string) string {
	if s.postgres {
		return " " + clause
	}
	return ""
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return failure(s.db.Ping(ctx)) }

// Close ends the store and closes its wake channels. No other method may be
// running or called afterwards.
func (s *Store) Close() error {
	s.wakes.close()
	return failure(s.db.Close())
}
