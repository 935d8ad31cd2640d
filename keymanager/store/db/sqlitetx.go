package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
)

// writer is the one connection that writes, with its statements.
type writer struct {
	conn *sql.Conn
	*stmts
}

func newWriter(ctx context.Context, h *sql.DB) (*writer, error) {
	conn, err := h.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", classify(err))
	}
	return &writer{conn: conn, stmts: &stmts{prepare: conn.PrepareContext, close: conn.Close}}, nil
}

// close gives the connection back to its handle.
func (w *writer) close() {
	if w == nil {
		return
	}
	w.forget()
	_ = w.stmts.close()
}

// discard closes a connection in a state that nobody knows, after its
// statements, which cannot be closed without it.
func (w *writer) discard() {
	w.forget()
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = w.stmts.close()
}

func (w *writer) exec(ctx context.Context, query string, args ...any) (int64, error) {
	st, err := w.get(ctx, query) //nolint:sqlclosecheck // kept for the next time
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, classify(err)
	}
	n, err := res.RowsAffected()
	return n, classify(err)
}

// take waits for the writer. It is nil after a failure to open one; then the
// next in line tries again.
func (d *sqliteDB) take(ctx context.Context) (*writer, error) {
	ctx, cancel := budget(ctx, DefaultTimeout)
	defer cancel()
	select {
	case w := <-d.conn:
		if w != nil {
			return w, nil
		}
		w, err := newWriter(ctx, d.write)
		if err != nil {
			d.conn <- nil
		}
		return w, err
	case <-ctx.Done():
		return nil, unavailable(fmt.Errorf("wait for the writer: %w", ctx.Err()))
	}
}

func (d *sqliteDB) InTx(ctx context.Context, fn func(Tx) error) error {
	return withRetry(ctx, func() error { return d.once(ctx, fn) })
}

func (d *sqliteDB) once(ctx context.Context, fn func(Tx) error) (err error) {
	w, err := d.take(ctx)
	if err != nil {
		return err
	}
	ended := false
	defer func() { // also when fn panics
		if !ended {
			if _, err := w.exec(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
				w.discard()
				w = nil
			}
		}
		d.conn <- w
	}()
	// A context that ends now would leave open whether the transaction has
	// begun: the driver says that it ended even if the statement was done. And
	// a writer left in a transaction can begin no other.
	if _, err := w.exec(context.WithoutCancel(ctx), "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	tx := &sqliteTx{w: w}
	if err := fn(tx); err != nil {
		return err
	}
	if tx.failed != nil {
		return tx.failed
	}
	for _, q := range tx.last {
		if q.into != nil {
			err = tx.QueryRow(ctx, q.query, q.args...).Scan(q.into...)
		} else {
			_, err = tx.Exec(ctx, q.query, q.args...)
		}
		if err != nil {
			return err
		}
	}
	// A context that ends now must not leave the outcome open.
	if _, err := w.exec(context.WithoutCancel(ctx), "COMMIT"); err != nil {
		return err
	}
	ended = true
	return nil
}

// sqliteTx remembers the first statement that failed: such a transaction is
// not committed, as Postgres would not.
type sqliteTx struct {
	w      *writer
	last   []queued
	failed error
}

func (t *sqliteTx) note(err error) error {
	if err != nil && t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *sqliteTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, cancel := budget(ctx, DefaultTimeout)
	defer cancel()
	n, err := t.w.exec(ctx, query, args...)
	return n, t.note(err)
}

func (t *sqliteTx) QueryRow(ctx context.Context, query string, args ...any) Row {
	return txRow{t.w.queryRow(ctx, query, args), t.note}
}

func (t *sqliteTx) Query(ctx context.Context, each func(Row) error, query string, args ...any) error {
	return t.note(t.w.query(ctx, each, query, args))
}

func (t *sqliteTx) AtCommit(into []any, query string, args ...any) {
	t.last = append(t.last, queued{into, query, args})
}

func (t *sqliteTx) NotifyAtCommit() {}

// txRow tells the transaction of an error that is more than an empty result.
type txRow struct {
	row  Row
	note func(error) error
}

func (r txRow) Scan(dest ...any) error {
	err := r.row.Scan(dest...)
	if err != nil && !isNoRows(err) {
		return r.note(err)
	}
	return err
}
