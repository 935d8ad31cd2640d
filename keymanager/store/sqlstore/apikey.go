package sqlstore

import (
	"context"
	"fmt"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const apiKeyColumns = `id, application_id, name, key_type, digest, last4, networks, referers, created_at, expires_at, revoked_at`

func scanAPIKey(r db.Row, k *keymanager.APIKey) error {
	return r.Scan(tokenID{&k.ID}, &k.ApplicationID, &k.Name, &k.KeyType, digest{&k.Digest}, &k.Last4,
		document{&k.Networks}, document{&k.Referers}, millis{&k.CreatedAt}, millis{&k.ExpiresAt}, millis{&k.RevokedAt})
}

// CreateAPIKey adds an API key.
func (s *Store) CreateAPIKey(ctx context.Context, k *keymanager.APIKey) error {
	return s.write(ctx, func(s *Store) error {
		networks, err := encode(k.Networks)
		if err != nil {
			return err
		}
		referers, err := encode(k.Referers)
		if err != nil {
			return err
		}
		s.stamp(&k.CreatedAt)
		_, err = s.q.Exec(ctx, `INSERT INTO api_key (`+apiKeyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			k.ID[:], k.ApplicationID, k.Name, k.KeyType, digestBytes(k.Digest), k.Last4, networks, referers,
			ms(k.CreatedAt), nullMS(k.ExpiresAt), nullMS(k.RevokedAt))
		return explain(err, fmt.Sprintf("API key %q exists already", k.Name), applicationLabel(k.ApplicationID)+" does not exist")
	})
}

// RevokeAPIKey ends an API key.
func (s *Store) RevokeAPIKey(ctx context.Context, id keymanager.TokenID, at time.Time) error {
	return s.write(ctx, func(s *Store) error {
		dead := keymanager.Dead{TokenID: id}
		err := s.q.QueryRow(ctx, `UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING expires_at`,
			id[:], ms(at)).Scan(millis{&dead.ExpiresAt})
		if isNoRows(err) {
			_, err = s.APIKey(ctx, id) // revoked before, or not there
			return err
		}
		if err != nil {
			return failure(err)
		}
		return s.Append(ctx, store.LogEvent{Dead: &dead})
	})
}

// APIKey reads one by id.
func (s *Store) APIKey(ctx context.Context, id keymanager.TokenID) (*keymanager.APIKey, error) {
	return one(ctx, s.q, scanAPIKey, fmt.Sprintf("API key %s", id), `SELECT `+apiKeyColumns+` FROM api_key WHERE id = $1`, id[:])
}

// APIKeys lists those of an application by name, revoked ones too.
func (s *Store) APIKeys(ctx context.Context, app keymanager.ApplicationID, p store.Page) ([]keymanager.APIKey, int, error) {
	return list(ctx, s.q, p, scanAPIKey,
		`SELECT `+apiKeyColumns+` FROM api_key WHERE application_id = $1 ORDER BY name LIMIT $2 OFFSET $3`,
		`SELECT count(*) FROM api_key WHERE application_id = $1`, app)
}
