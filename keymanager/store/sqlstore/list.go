package sqlstore

import (
	"context"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// list reads one page of a query and the number of all its rows. The last two
// placeholders of the query are its LIMIT and OFFSET; count takes the others.
func list[T any](ctx context.Context, q db.Q, p store.Page, scan func(db.Row, *T) error, query, count string, args ...any) ([]T, int, error) {
	limit := p.Limit
	switch {
	case limit <= 0:
		limit = store.DefaultLimit
	case limit > store.MaxLimit:
		limit = store.MaxLimit
	}
	var total int
	if err := q.QueryRow(ctx, count, args...).Scan(&total); err != nil {
		return nil, 0, failure(err)
	}
	page, err := all(ctx, q, scan, query, append(args[:len(args):len(args)], limit, max(p.Offset, 0))...)
	return page, total, err
}

// all reads every row of a query.
func all[T any](ctx context.Context, q db.Q, scan func(db.Row, *T) error, query string, args ...any) ([]T, error) {
	var items []T
	err := q.Query(ctx, func(r db.Row) error {
		var item T
		if err := scan(r, &item); err != nil {
			return err
		}
		items = append(items, item)
		return nil
	}, query, args...)
	return items, failure(err)
}

// one reads the row of an object called what.
func one[T any](ctx context.Context, q db.Q, scan func(db.Row, *T) error, what, query string, args ...any) (*T, error) {
	item := new(T)
	if err := scan(q.QueryRow(ctx, query, args...), item); err != nil {
		return nil, found(err, what)
	}
	return item, nil
}

// created gives a new object its first Meta.
func (s *Store) created(m *keymanager.Meta) {
	old := *m
	s.tx.onRollback(func() { *m = old })
	now := s.now().UTC().Truncate(time.Millisecond)
	*m = keymanager.Meta{CreatedAt: now, UpdatedAt: now, Revision: 1}
}

// updated runs an UPDATE that ends in "revision = revision + 1 … RETURNING
// created_at, revision" and has the time of the change and the expected
// revision as its last two arguments, and sets Meta. Without a row, exists
// tells a wrong revision from a missing object.
func (s *Store) updated(ctx context.Context, m *keymanager.Meta, what string, exists func() error, query string, args ...any) error {
	now := s.now().UTC().Truncate(time.Millisecond)
	next := keymanager.Meta{UpdatedAt: now}
	args = append(args, ms(now), m.Revision)
	err := s.q.QueryRow(ctx, query, args...).Scan(millis{&next.CreatedAt}, &next.Revision)
	if err == nil {
		old := *m
		s.tx.onRollback(func() { *m = old })
		*m = next
		return nil
	}
	if !isNoRows(err) {
		return err
	}
	if err := exists(); err != nil {
		return err
	}
	return keymanager.Errorf(keymanager.KindPrecondition, "%s was changed by somebody else: revision %d is not the current one", what, m.Revision)
}

// deleted runs a DELETE of one object.
func (s *Store) deleted(ctx context.Context, what, query string, args ...any) error {
	n, err := s.q.Exec(ctx, query, args...)
	if err != nil {
		return explain(err, "", what+" is still in use")
	}
	if n == 0 {
		return notFound(what)
	}
	return nil
}
