package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
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

// commit sends the queued statements and COMMIT in one message, which the
// server carries out when it has all of it: this process, or the network, can
// stop at any byte without holding what they lock. (Of a batch the server
// carries out what it has, and then waits for the rest with no time limit.)
func (t *postgresTx) commit(ctx context.Context) error {
	ctx, cancel := t.p.budget(ctx)
	defer cancel()
	pg := t.conn.Conn().PgConn()
	last := t.last
	if t.notify {
		last = append(last, queued{nil, "SELECT pg_notify($1, '')", []any{t.p.channel()}})
	}
	var message strings.Builder
	for _, q := range last {
		text, err := inline(q.query, q.args, pg.EscapeString)
		if err != nil {
			return err
		}
		message.WriteString(text)
		message.WriteString(";\n")
	}
	message.WriteString("COMMIT")
	results := pg.Exec(ctx, message.String())
	err := t.results(results, last)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return t.p.noted(err)
}

func (t *postgresTx) results(results *pgconn.MultiResultReader, last []queued) error {
	var tag pgconn.CommandTag
	for i := 0; results.NextResult(); i++ {
		r := results.ResultReader()
		rows := 0
		for r.NextRow() {
			rows++
			if i < len(last) && last[i].into != nil && rows == 1 {
				if err := scanText(t.conn.Conn().TypeMap(), r, last[i].into); err != nil {
					return err
				}
			}
		}
		var err error
		if tag, err = r.Close(); err != nil {
			return err
		}
		if i < len(last) && last[i].into != nil && rows == 0 {
			return fmt.Errorf("no row to read at commit: %s", last[i].query)
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return committed(tag)
}

// scanText reads a row of a message that was sent as text.
func scanText(types *pgtype.Map, r *pgconn.ResultReader, into []any) error {
	for i, f := range r.FieldDescriptions() {
		if err := types.Scan(f.DataTypeOID, pgtype.TextFormatCode, r.Values()[i], into[i]); err != nil {
			return err
		}
	}
	return nil
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
