package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"tollgate/keymanager/store/db"
)

// Failing has one statement of a database fail. Beginning and ending a
// transaction count as statements too.
type Failing struct {
	mu    sync.Mutex
	count int
	at    int  // the statement that fails; 0 = none
	late  bool // it is carried out all the same, if it is a commit
}

// Arm has the n-th statement from now fail. If it is a commit and late, it is
// carried out, and only its answer is lost.
func (f *Failing) Arm(n int, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.at, f.late = 0, n, late
}

// Disarm lets everything pass, and reports whether a statement has failed.
func (f *Failing) Disarm() (failed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	failed = f.at > 0 && f.count >= f.at
	f.at = 0
	return failed
}

var errFailing = errors.New("the test has this statement fail")

func (f *Failing) next() (fails, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	return f.count == f.at, f.late
}

func (f *Failing) step() error {
	if fails, _ := f.next(); fails {
		return fmt.Errorf("%w: %w", db.ErrUnavailable, errFailing)
	}
	return nil
}

// Wrap returns d with statements that fail.
func (f *Failing) Wrap(d db.DB) db.DB { return failingDB{d, failingQ{d, f}} }

type failingDB struct {
	db.DB
	q failingQ
}

func (d failingDB) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	return d.q.Exec(ctx, query, args...)
}

func (d failingDB) QueryRow(ctx context.Context, query string, args ...any) db.Row {
	return d.q.QueryRow(ctx, query, args...)
}

func (d failingDB) Query(ctx context.Context, each func(db.Row) error, query string, args ...any) error {
	return d.q.Query(ctx, each, query, args...)
}

func (d failingDB) InTx(ctx context.Context, fn func(db.Tx) error) error {
	f := d.q.f
	if err := f.step(); err != nil { // BEGIN
		return err
	}
	var lost error
	err := d.DB.InTx(ctx, func(tx db.Tx) error {
		wrapped := &failingTx{tx, failingQ{tx, f}, nil}
		if err := fn(wrapped); err != nil {
			return err
		}
		if wrapped.failed != nil { // as a database would have it
			return wrapped.failed
		}
		fails, late := f.next() // COMMIT
		if !fails {
			return nil
		}
		lost = fmt.Errorf("%w: %w", db.ErrUnavailable, errFailing)
		if late {
			return nil
		}
		return lost
	})
	if err == nil {
		err = lost
	}
	return err
}

type failingTx struct {
	db.Tx
	q      failingQ
	failed error
}

func (t *failingTx) note(err error) error {
	if err != nil && t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *failingTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := t.q.f.step(); err != nil {
		return 0, t.note(err)
	}
	return t.Tx.Exec(ctx, query, args...)
}

func (t *failingTx) QueryRow(ctx context.Context, query string, args ...any) db.Row {
	if err := t.q.f.step(); err != nil {
		return failedRow{t.note(err)}
	}
	return t.Tx.QueryRow(ctx, query, args...)
}

func (t *failingTx) Query(ctx context.Context, each func(db.Row) error, query string, args ...any) error {
	if err := t.q.f.step(); err != nil {
		return t.note(err)
	}
	return t.Tx.Query(ctx, each, query, args...)
}

// failingQ fails outside of transactions.
type failingQ struct {
	db.Q
	f *Failing
}

func (q failingQ) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := q.f.step(); err != nil {
		return 0, err
	}
	return q.Q.Exec(ctx, query, args...)
}

func (q failingQ) QueryRow(ctx context.Context, query string, args ...any) db.Row {
	if err := q.f.step(); err != nil {
		return failedRow{err}
	}
	return q.Q.QueryRow(ctx, query, args...)
}

func (q failingQ) Query(ctx context.Context, each func(db.Row) error, query string, args ...any) error {
	if err := q.f.step(); err != nil {
		return err
	}
	return q.Q.Query(ctx, each, query, args...)
}

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }
