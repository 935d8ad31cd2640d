package sqlstore

import (
	"context"

	"tollgate/keymanager/store/db"
)

// The statements whose plans are tested.
var HotQueries = map[string]string{
	"TokenFacts":  tokenFactsQuery,
	"APIKeyFacts": apiKeyFactsQuery,
	"ClientFacts": clientFactsQuery,
}

// Exec runs a statement of a test's own.
func (s *Store) Exec(ctx context.Context, query string, args ...any) error {
	return s.write(ctx, func(s *Store) error {
		_, err := s.q.Exec(ctx, query, args...)
		return err
	})
}

// Texts reads the last column of every row.
func (s *Store) Texts(ctx context.Context, columns int, query string, args ...any) ([]string, error) {
	return all(ctx, s.q, func(r db.Row, to *string) error {
		dest := make([]any, columns)
		for i := range dest {
			dest[i] = new(any)
		}
		dest[columns-1] = to
		return r.Scan(dest...)
	}, query, args...)
}
