package sqlstore

import (
	"context"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// tx is what a transaction gathers until it ends.
type tx struct {
	db.Tx
	buffer
	undo []func()
}

// onRollback restores what the transaction has set on a caller's object, which
// may be used again in the next attempt.
func (t *tx) onRollback(fn func()) { t.undo = append(t.undo, fn) }

func (t *tx) rollback() {
	for _, fn := range t.undo {
		fn()
	}
	t.undo = nil
}

// InTx runs fn in one transaction; see store.Store.
func (s *Store) InTx(ctx context.Context, fn func(store.Store) error) (keymanager.Position, error) {
	if s.tx != nil {
		return keymanager.Position{}, fn(s)
	}
	return s.run(ctx, func(tx *Store) error { return fn(tx) })
}

// write runs the statements of one write method in the running transaction, or
// in one of its own.
func (s *Store) write(ctx context.Context, fn func(*Store) error) error {
	if s.tx != nil {
		return fn(s)
	}
	_, err := s.run(ctx, fn)
	return err
}

func (s *Store) run(ctx context.Context, fn func(*Store) error) (keymanager.Position, error) {
	var t *tx
	var head headRow
	committed := false
	defer func() { // also when fn panics
		if t != nil && !committed {
			t.rollback()
		}
	}()
	err := s.db.InTx(ctx, func(q db.Tx) error {
		if t != nil {
			t.rollback() // an attempt that lost a race
		}
		t = &tx{Tx: q}
		if err := fn(&Store{shared: s.shared, q: q, tx: t}); err != nil {
			return err
		}
		return t.number(q, &head)
	})
	if err != nil {
		return keymanager.Position{}, failure(err)
	}
	committed = true
	if len(t.events) == 0 {
		return keymanager.Position{}, nil
	}
	t.setPositions(head.seq)
	s.wakes.wake()
	return head.position()
}
