// Package db is the narrow seam below the store: the few calls that a
// repository makes of its database, served by native pgx for Postgres and by
// database/sql with a pure Go driver for SQLite. One SQL text with $n
// placeholders runs on both; migrations give both the same tables and columns.
//
// It opens the database and measures deadlines by the wall clock. It knows
// nothing of what is stored.
package db

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"time"
)

// What an error means to the caller; test with errors.Is. An error that wraps
// none of them is a mistake in the program or in the stored data.
var (
	// ErrNoRows says that QueryRow found nothing.
	ErrNoRows = sql.ErrNoRows
	// ErrConflict says that a unique key is taken.
	ErrConflict = errors.New("unique key taken")
	// ErrReference says that a row refers to one that is missing, or is still
	// referred to.
	ErrReference = errors.New("reference violated")
	// ErrValue says that a value cannot be stored: not UTF-8, or refused by a
	// check.
	ErrValue = errors.New("value refused")
	// ErrUnavailable says that the database cannot be reached, is busy, too
	// slow or shutting down, or that the context ended first.
	ErrUnavailable = errors.New("database not available")
)

// DefaultTimeout bounds each statement whose context has no deadline.
const DefaultTimeout = 5 * time.Second

// Row is one row of a result.
type Row interface {
	Scan(dest ...any) error
}

// Q runs statements. Every statement ends by the deadline of its context, or
// after the default timeout if it has none.
type Q interface {
	// Exec returns the number of rows affected.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// QueryRow reads one row; its Scan, which must be called, returns
	// ErrNoRows when there is none.
	QueryRow(ctx context.Context, query string, args ...any) Row
	// Query calls each for every row. each must not use the same Q.
	Query(ctx context.Context, each func(Row) error, query string, args ...any) error
}

// Tx is a running transaction. After a statement failed it can only be rolled
// back: on both engines it is, even if the caller carries on.
type Tx interface {
	Q
	// AtCommit queues a statement that runs just before COMMIT, in order and,
	// on Postgres, in one message with it: a process that stops in between
	// cannot keep the locks that the statement takes. into receives its one
	// row; nil is for a statement without a result.
	AtCommit(into []any, query string, args ...any)
	// NotifyAtCommit wakes those who Listen once the transaction is committed.
	// It does nothing where only one process uses the database.
	NotifyAtCommit()
}

// DB is an open database.
type DB interface {
	Q
	// InTx runs fn in one transaction. It is committed when fn returns nil and
	// rolled back when fn fails or panics. After a serialization failure or a
	// deadlock fn runs again in a new transaction, a few times. An error of
	// fn comes back as it is; ErrUnavailable may also mean that the outcome of
	// COMMIT is not known.
	InTx(ctx context.Context, fn func(Tx) error) error
	// Listen calls wake after commits that notified, and when it may have
	// missed some, until ctx ends. It needs a goroutine of its own.
	Listen(ctx context.Context, wake func()) error
	// Migrate brings the database up to the last of the migrations. Only one
	// process at a time does so.
	Migrate(ctx context.Context, migrations fs.FS) error
	// Pending returns the file names of migrations that have not been applied.
	Pending(ctx context.Context, migrations fs.FS) ([]string, error)
	Ping(ctx context.Context) error
	Close() error
}

// queued is a statement that waits for COMMIT.
type queued struct {
	into  []any
	query string
	args  []any
}

// maxAttempts bounds how often InTx runs fn.
const maxAttempts = 5

// withRetry runs once until it succeeds, fails for good, or has failed
// maxAttempts times. A transaction that lost a race waits a little longer each
// time, so that the winner gets through.
func withRetry(ctx context.Context, once func() error) error {
	for attempt := 1; ; attempt++ {
		err := once()
		if !retryable(err) {
			return err
		}
		if attempt == maxAttempts {
			return unavailable(err)
		}
		select {
		case <-time.After(time.Duration(attempt*attempt) * 2 * time.Millisecond):
		case <-ctx.Done():
			return unavailable(ctx.Err())
		}
	}
}
