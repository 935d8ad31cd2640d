package sqlstore

import (
	"context"
	"fmt"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// Statements name the table of the primary user store, not its parent: a
// look-up through the parent makes Postgres lock every partition.
const tokenColumns = `digest, id, consumer_key, application_id, key_type, user_id, user_type, scopes, issued_at, expires_at, revoked_at`

func scanToken(r db.Row, t *keymanager.Token) error {
	return r.Scan(digest{&t.Digest}, tokenID{&t.ID}, &t.ConsumerKey, &t.ApplicationID, &t.KeyType, &t.User, &t.UserType,
		words[keymanager.Scope]{&t.Scopes}, millis{&t.IssuedAt}, millis{&t.ExpiresAt}, millis{&t.RevokedAt})
}

// CreateToken stores an issued token. It is one statement without an event: no
// gateway needs to know, and no transaction around it costs a round trip.
func (s *Store) CreateToken(ctx context.Context, t *keymanager.Token) error {
	_, err := s.q.Exec(ctx, `INSERT INTO access_token_primary (`+tokenColumns+`, partition)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'primary')`,
		digestBytes(t.Digest), t.ID[:], t.ConsumerKey, t.ApplicationID, t.KeyType, t.User, t.UserType,
		joined(t.Scopes), ms(t.IssuedAt), ms(t.ExpiresAt), nullMS(t.RevokedAt))
	return explain(err, "the token exists already", "")
}

// TokenByDigest reads a token whose client exists.
func (s *Store) TokenByDigest(ctx context.Context, d keymanager.Digest) (*keymanager.Token, error) {
	return one(ctx, s.q, scanToken, "the token", `SELECT t.digest, t.id, t.consumer_key, t.application_id, t.key_type, t.user_id, t.user_type,
		t.scopes, t.issued_at, t.expires_at, t.revoked_at
		FROM access_token_primary t JOIN client c ON c.consumer_key = t.consumer_key WHERE t.digest = $1`, digestBytes(d))
}

// RevokeToken ends a token.
func (s *Store) RevokeToken(ctx context.Context, id keymanager.TokenID, at time.Time) (revoked bool, err error) {
	err = s.write(ctx, func(s *Store) error {
		dead := keymanager.Dead{TokenID: id}
		err := s.q.QueryRow(ctx, `UPDATE access_token_primary SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING expires_at`,
			id[:], ms(at)).Scan(millis{&dead.ExpiresAt})
		revoked = err == nil
		if isNoRows(err) {
			var one int
			err = s.q.QueryRow(ctx, `SELECT 1 FROM access_token_primary WHERE id = $1`, id[:]).Scan(&one)
			return found(err, fmt.Sprintf("token %s", id))
		}
		if err != nil {
			return failure(err)
		}
		return s.Append(ctx, store.LogEvent{Dead: &dead})
	})
	return revoked && err == nil, err
}

// DeleteExpiredTokens removes the oldest of the tokens that expired before t.
func (s *Store) DeleteExpiredTokens(ctx context.Context, t time.Time, limit int) (int, error) {
	n, err := s.q.Exec(ctx, `DELETE FROM access_token_primary WHERE digest IN
		(SELECT digest FROM access_token_primary WHERE expires_at < $1 ORDER BY expires_at LIMIT $2`+
		s.lockingClause("FOR UPDATE SKIP LOCKED")+`)`, ms(t), limit)
	return int(n), failure(err)
}

// revokeAtOnce is how many tokens RevokeAllTokens looks at in one statement.
const revokeAtOnce = 10_000

// RevokeAllTokens revokes every token that is there, and returns how many had
// been live. It appends no event: a new epoch, which must follow, has gateways
// ask anew about all that they know. Interrupted, it can be run again.
func (s *Store) RevokeAllTokens(ctx context.Context) (total int, err error) {
	at := ms(s.now())
	for last := []byte{}; ; {
		next := []byte(nil)
		err := s.q.QueryRow(ctx, `SELECT digest FROM access_token_primary WHERE digest > $1 ORDER BY digest LIMIT 1 OFFSET $2`,
			last, revokeAtOnce-1).Scan(&next)
		const update = `UPDATE access_token_primary SET revoked_at = $1 WHERE revoked_at IS NULL AND digest > $2`
		var n int64
		switch {
		case isNoRows(err): // the rest
			n, err = s.q.Exec(ctx, update, at, last)
			return total + int(n), failure(err)
		case err != nil:
			return total, failure(err)
		}
		if n, err = s.q.Exec(ctx, update+` AND digest <= $3`, at, last, next); err != nil {
			return total, failure(err)
		}
		total, last = total+int(n), next
	}
}
