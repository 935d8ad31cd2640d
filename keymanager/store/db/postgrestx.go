package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rollbackTimeout bounds the attempt to keep a connection whose transaction
// failed; after it the connection is closed, which rolls back too.
const rollbackTimeout = 2 * time.Second

func (p *postgres) InTx(ctx context.Context, fn func(Tx) error) error {
	return withRetry(ctx, func() error { return p.once(ctx, fn) })
}

func (p *postgres) once(ctx context.Context, fn func(Tx) error) error {
	conn, leave, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	defer leave()
	// A connection that is still in its transaction is closed by Release.
	defer conn.Release()
	tx := &postgresTx{conn: conn, p: p}
	// Each statement sees what was committed before it: the checks of the
	// store lock a row first, and read what depends on it afterwards.
	if _, err := tx.Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED"); err != nil {
		return err
	}
	defer tx.rollback(ctx) // also when fn panics
	if err := fn(tx); err != nil {
		if retryable(tx.failed) {
			return tx.failed // whatever fn made of it
		}
		return err
	}
	if tx.failed != nil {
		return tx.failed
	}
	return tx.commit(ctx)
}

// acquire takes a connection for a transaction.
func (p *postgres) acquire(ctx context.Context) (conn *pgxpool.Conn, leave func(), err error) {
	ctx, cancel := budget(ctx, p.timeout)
	defer cancel()
	if leave, err = p.gate.enter(ctx); err != nil {
		return nil, nil, err
	}
	if conn, err = p.pool.Acquire(ctx); err != nil {
		leave()
		return nil, nil, p.noted(unavailable(err))
	}
	return conn, leave, nil
}

// postgresTx remembers the first statement that failed: the server commits
// nothing after it.
type postgresTx struct {
	conn   *pgxpool.Conn
	p      *postgres
	last   []queued
	notify bool
	failed error
}

func (t *postgresTx) note(err error) error {
	if err != nil && t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *postgresTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, cancel := t.p.budget(ctx)
	defer cancel()
	tag, err := t.conn.Exec(ctx, query, args...)
	return tag.RowsAffected(), t.note(t.p.noted(err))
}

func (t *postgresTx) QueryRow(ctx context.Context, query string, args ...any) Row {
	ctx, cancel := t.p.budget(ctx)
	return txRow{postgresRow{t.conn.QueryRow(ctx, query, args...), cancel, t.p.noted}, t.note}
}

func (t *postgresTx) Query(ctx context.Context, each func(Row) error, query string, args ...any) error {
	ctx, cancel := t.p.budget(ctx)
	defer cancel()
	return t.note(t.p.noted(readRows(each)(t.conn.Query(ctx, query, args...))))
}

func (t *postgresTx) AtCommit(into []any, query string, args ...any) {
	t.last = append(t.last, queued{into, query, args})
}

func (t *postgresTx) NotifyAtCommit() { t.notify = true }

// commit sends the queued statements and COMMIT in one message, so that this
// process can stop at any point without holding what they lock.
func (t *postgresTx) commit(ctx context.Context) error {
	ctx, cancel := t.p.budget(ctx)
	defer cancel()
	b := new(pgx.Batch)
	for _, q := range t.last {
		b.Queue(q.query, q.args...)
	}
	if t.notify {
		b.Queue("SELECT pg_notify($1, '')", t.p.channel())
	}
	b.Queue("COMMIT")
	results := t.conn.SendBatch(ctx, b)
	err := t.results(results)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return t.p.noted(err)
}

func (t *postgresTx) results(results pgx.BatchResults) error {
	for _, q := range t.last {
		if q.into == nil {
			if _, err := results.Exec(); err != nil {
				return err
			}
			continue
		}
		if err := results.QueryRow().Scan(q.into...); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("no row to read at commit: %s", q.query)
			}
			return err
		}
	}
	if t.notify {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	tag, err := results.Exec()
	if err != nil {
		return err
	}
	return committed(tag)
}

// rollback ends a transaction that is still open, within a time of its own:
// the caller's context may have ended, which is why we are here.
func (t *postgresTx) rollback(ctx context.Context) {
	if c := t.conn.Conn(); c.IsClosed() || c.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = t.conn.Exec(ctx, "ROLLBACK") // if it fails, Release closes the connection
}
