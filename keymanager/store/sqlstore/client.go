package sqlstore

import (
	"context"
	"fmt"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const clientColumns = `consumer_key, application_id, key_type, grant_types, auth_method, token_lifetime_ms, created_at`

func clientDest(c *keymanager.Client) []any {
	return []any{&c.ConsumerKey, &c.ApplicationID, &c.KeyType, words[string]{&c.GrantTypes}, &c.AuthMethod,
		duration{&c.TokenLifetime}, millis{&c.CreatedAt}}
}

func scanClient(r db.Row, c *keymanager.Client) error { return r.Scan(clientDest(c)...) }

// CreateClient adds a key to an application.
func (s *Store) CreateClient(ctx context.Context, c *keymanager.Client) error {
	return s.write(ctx, func(s *Store) error {
		s.stamp(&c.CreatedAt)
		_, err := s.q.Exec(ctx, `INSERT INTO client (`+clientColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			c.ConsumerKey, c.ApplicationID, c.KeyType, joined(c.GrantTypes), c.AuthMethod, c.TokenLifetime.Milliseconds(), ms(c.CreatedAt))
		return explain(err, fmt.Sprintf("the application has a %s key already, or the consumer key is taken", c.KeyType),
			applicationLabel(c.ApplicationID)+" does not exist")
	})
}

// UpdateClient changes a key's grants, authentication and token lifetime.
func (s *Store) UpdateClient(ctx context.Context, c *keymanager.Client) error {
	return s.write(ctx, func(s *Store) error {
		var app keymanager.ApplicationID
		err := s.q.QueryRow(ctx, `UPDATE client SET grant_types = $2, auth_method = $3, token_lifetime_ms = $4
			WHERE consumer_key = $1 RETURNING application_id`,
			c.ConsumerKey, joined(c.GrantTypes), c.AuthMethod, c.TokenLifetime.Milliseconds()).Scan(&app)
		if err != nil {
			return found(err, clientLabel(c.ConsumerKey))
		}
		return s.Append(ctx, staleApplication(app))
	})
}

// DeleteClient removes a key with its secrets and tokens.
func (s *Store) DeleteClient(ctx context.Context, k keymanager.ConsumerKey) error {
	return s.write(ctx, func(s *Store) error {
		var app keymanager.ApplicationID
		err := s.q.QueryRow(ctx, `DELETE FROM client WHERE consumer_key = $1 RETURNING application_id`, k).Scan(&app)
		if err != nil {
			return found(err, clientLabel(k))
		}
		dead, err := s.buryTokens(ctx, k)
		if err != nil {
			return err
		}
		return s.Append(ctx, dead, staleApplication(app))
	})
}

const (
	// buryAtOnce bounds the tokens deleted together with their client, so that
	// the transaction stays short. Those left are refused without their client
	// (every look-up joins it) and go when they have expired.
	buryAtOnce = 10_000
	// deadAtLeast is how long a client without live tokens is declared dead.
	deadAtLeast = time.Hour
)

// buryTokens deletes the tokens of a deleted client and returns the event that
// refuses what was issued to it.
func (s *Store) buryTokens(ctx context.Context, k keymanager.ConsumerKey) (store.LogEvent, error) {
	now := s.now().UTC().Truncate(time.Millisecond)
	var last time.Time
	err := s.q.QueryRow(ctx, `SELECT max(expires_at) FROM access_token_primary WHERE consumer_key = $1`, k).Scan(millis{&last})
	if err != nil {
		return store.LogEvent{}, failure(err)
	}
	_, err = s.q.Exec(ctx, `DELETE FROM access_token_primary WHERE digest IN
		(SELECT digest FROM access_token_primary WHERE consumer_key = $1 LIMIT $2)`, k, buryAtOnce)
	if err != nil {
		return store.LogEvent{}, failure(err)
	}
	if earliest := now.Add(deadAtLeast); last.Before(earliest) {
		last = earliest
	}
	return store.LogEvent{Dead: &keymanager.Dead{ConsumerKey: k, NotBefore: now, ExpiresAt: last}}, nil
}

// Clients lists the keys of an application.
func (s *Store) Clients(ctx context.Context, app keymanager.ApplicationID) ([]keymanager.Client, error) {
	return all(ctx, s.q, scanClient,
		`SELECT `+clientColumns+` FROM client WHERE application_id = $1 ORDER BY key_type`, app)
}

// ClientFacts reads a client, its application, owner, secrets and the scopes
// within its reach: one row for each secret, with the rest repeated.
func (s *Store) ClientFacts(ctx context.Context, k keymanager.ConsumerKey) (*store.ClientFacts, error) {
	if !storable(k) {
		return nil, notFound(clientLabel(k))
	}
	var f *store.ClientFacts
	err := s.q.Query(ctx, func(r db.Row) error {
		var row store.ClientFacts
		var secret keymanager.ClientSecret
		var id *string
		dest := append(clientDest(&row.Client), applicationDest(&row.Application)...)
		u := &row.Owner
		dest = append(dest, &u.ID, &u.Organization, &u.UserStore, &u.Name, &u.Email, &u.Status,
			millis{&u.CreatedAt}, millis{&u.UpdatedAt}, &u.Revision, words[keymanager.Scope]{&row.APIScopes},
			&id, nullDigest{&secret.Digest}, optional[string]{&secret.Last4}, millis{&secret.CreatedAt}, millis{&secret.ExpiresAt})
		if err := r.Scan(dest...); err != nil {
			return err
		}
		if f == nil {
			f = &row
		}
		if id != nil {
			secret.ID, secret.ConsumerKey = keymanager.SecretID(*id), k
			f.Secrets = append(f.Secrets, secret)
		}
		return nil
	}, clientFactsQuery, k)
	switch {
	case err != nil:
		return nil, failure(err)
	case f == nil:
		return nil, notFound(clientLabel(k))
	}
	return f, nil
}

const clientFactsQuery = `
SELECT c.consumer_key, c.application_id, c.key_type, c.grant_types, c.auth_method, c.token_lifetime_ms, c.created_at,
       a.id, a.organization, a.name, a.owner, a.tier, a.token_type, a.attributes, a.status, a.scopes, a.built_in, a.created_at, a.updated_at, a.revision,
       o.id, o.organization, o.user_store, o.name, o.email, o.status, o.created_at, o.updated_at, o.revision,
       (SELECT string_agg(reach.scope, ' ') FROM
           (SELECT DISTINCT sc.scope FROM subscription su JOIN api_scope sc ON sc.api_id = su.api_id
            WHERE su.application_id = c.application_id AND su.state IN ('UNBLOCKED', 'BLOCKED', 'PROD_ONLY_BLOCKED', 'TIER_UPDATE_PENDING')
            ORDER BY sc.scope) reach),
       s.id, s.digest, s.last4, s.created_at, s.expires_at
FROM client c
JOIN application a ON a.id = c.application_id
JOIN users o ON o.id = a.owner
LEFT JOIN client_secret s ON s.consumer_key = c.consumer_key
WHERE c.consumer_key = $1
ORDER BY s.created_at, s.id`

func clientLabel(k keymanager.ConsumerKey) string { return fmt.Sprintf("consumer key %q", k) }
