package sqlstore

import (
	"context"
	"fmt"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store/db"
)

const secretColumns = `consumer_key, id, digest, last4, created_at, expires_at`

func scanSecret(r db.Row, c *keymanager.ClientSecret) error {
	return r.Scan(&c.ConsumerKey, &c.ID, digest{&c.Digest}, &c.Last4, millis{&c.CreatedAt}, millis{&c.ExpiresAt})
}

// CreateSecret adds a secret to a client.
func (s *Store) CreateSecret(ctx context.Context, c *keymanager.ClientSecret) error {
	return s.write(ctx, func(s *Store) error {
		s.stamp(&c.CreatedAt)
		_, err := s.q.Exec(ctx, `INSERT INTO client_secret (`+secretColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
			c.ConsumerKey, c.ID, digestBytes(c.Digest), c.Last4, ms(c.CreatedAt), nullMS(c.ExpiresAt))
		return explain(err, secretLabel(c.ID)+" exists already", clientLabel(c.ConsumerKey)+" does not exist")
	})
}

// DeleteSecret removes a secret; tokens that it got live on.
func (s *Store) DeleteSecret(ctx context.Context, k keymanager.ConsumerKey, id keymanager.SecretID) error {
	return s.write(ctx, func(s *Store) error {
		return s.deleted(ctx, secretLabel(id), `DELETE FROM client_secret WHERE consumer_key = $1 AND id = $2`, k, id)
	})
}

// Secrets lists the secrets of a client, oldest first.
func (s *Store) Secrets(ctx context.Context, k keymanager.ConsumerKey) ([]keymanager.ClientSecret, error) {
	return all(ctx, s.q, scanSecret,
		`SELECT `+secretColumns+` FROM client_secret WHERE consumer_key = $1 ORDER BY created_at, id`, k)
}

// stamp sets a time of creation that the caller left out, as precise as it is
// stored.
func (s *Store) stamp(t *time.Time) {
	old := *t
	s.tx.onRollback(func() { *t = old })
	if t.IsZero() {
		*t = s.now()
	}
	*t = t.UTC().Truncate(time.Millisecond)
}

func secretLabel(id keymanager.SecretID) string { return fmt.Sprintf("secret %q", id) }
