package sqlstore

import (
	"context"
	"fmt"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const applicationColumns = `id, organization, name, owner, tier, token_type, attributes, status, scopes, built_in, created_at, updated_at, revision`

func scanApplication(r db.Row, a *keymanager.Application) error {
	return r.Scan(applicationDest(a)...)
}

func applicationDest(a *keymanager.Application) []any {
	return []any{&a.ID, &a.Organization, &a.Name, &a.Owner, optional[keymanager.TierName]{&a.Tier}, &a.TokenType,
		document{&a.Attributes}, &a.Status, words[keymanager.Scope]{&a.Scopes}, &a.BuiltIn,
		millis{&a.CreatedAt}, millis{&a.UpdatedAt}, &a.Revision}
}

// CreateApplication adds an application.
func (s *Store) CreateApplication(ctx context.Context, a *keymanager.Application) error {
	return s.write(ctx, func(s *Store) error {
		attributes, err := encode(a.Attributes)
		if err != nil {
			return err
		}
		if err := s.holdOwner(ctx, a.Owner); err != nil {
			return err
		}
		s.created(&a.Meta)
		_, err = s.q.Exec(ctx, `INSERT INTO application (`+applicationColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			a.ID, a.Organization, a.Name, a.Owner, nullable(a.Tier), a.TokenType, attributes, a.Status,
			joined(a.Scopes), a.BuiltIn, ms(a.CreatedAt), ms(a.UpdatedAt), a.Revision)
		return explain(err, applicationTaken(a), applicationReferences)
	})
}

// holdOwner keeps the owner as he is until the transaction ends. Who changes
// him meanwhile waits, and then sees that he owns the application: its verdicts
// become stale with him. (A foreign key holds only his id.) One that does not
// exist is left to the foreign key.
func (s *Store) holdOwner(ctx context.Context, id keymanager.UserID) error {
	if !s.postgres {
		return nil
	}
	var one int
	err := s.q.QueryRow(ctx, `SELECT 1 FROM users WHERE id = $1 FOR SHARE`, id).Scan(&one)
	if isNoRows(err) {
		return nil
	}
	return failure(err)
}

const applicationReferences = "the organization, owner or tier of the application does not exist"

func applicationTaken(a *keymanager.Application) string {
	return fmt.Sprintf("application %q exists already", a.Name)
}

// UpdateApplication changes an application; its verdicts become stale.
func (s *Store) UpdateApplication(ctx context.Context, a *keymanager.Application) error {
	return s.write(ctx, func(s *Store) error {
		attributes, err := encode(a.Attributes)
		if err != nil {
			return err
		}
		if err := s.holdOwner(ctx, a.Owner); err != nil {
			return err
		}
		err = s.updated(ctx, &a.Meta, fmt.Sprintf("application %q", a.Name),
			func() error { _, err := s.Application(ctx, a.ID); return err },
			`UPDATE application SET name = $2, owner = $3, tier = $4, token_type = $5, attributes = $6, status = $7, scopes = $8,
			updated_at = $9, revision = revision + 1
			WHERE id = $1 AND (CAST($10 AS BIGINT) = 0 OR revision = $10) RETURNING created_at, revision`,
			a.ID, a.Name, a.Owner, nullable(a.Tier), a.TokenType, attributes, a.Status, joined(a.Scopes))
		if err != nil {
			return explain(err, applicationTaken(a), applicationReferences)
		}
		return s.Append(ctx, staleApplication(a.ID))
	})
}

// DeleteApplication removes an application with all that belongs to it, and
// declares its credentials dead.
func (s *Store) DeleteApplication(ctx context.Context, id keymanager.ApplicationID) error {
	return s.write(ctx, func(s *Store) error {
		clients, err := all(ctx, s.q, func(r db.Row, k *keymanager.ConsumerKey) error { return r.Scan(k) },
			`DELETE FROM client WHERE application_id = $1 RETURNING consumer_key`, id)
		if err != nil {
			return err
		}
		var events []store.LogEvent
		for _, k := range clients {
			dead, err := s.buryTokens(ctx, k)
			if err != nil {
				return err
			}
			events = append(events, dead)
		}
		keys, err := all(ctx, s.q, func(r db.Row, d *keymanager.Dead) error {
			return r.Scan(tokenID{&d.TokenID}, millis{&d.ExpiresAt})
		}, `DELETE FROM api_key WHERE application_id = $1 RETURNING id, expires_at`, id)
		if err != nil {
			return err
		}
		for i := range keys {
			events = append(events, store.LogEvent{Dead: &keys[i]})
		}
		// The subscriptions go with it (ON DELETE CASCADE).
		if err := s.deleted(ctx, applicationLabel(id), `DELETE FROM application WHERE id = $1`, id); err != nil {
			return err
		}
		return s.Append(ctx, append(events, staleApplication(id))...)
	})
}

// Application reads one by id.
func (s *Store) Application(ctx context.Context, id keymanager.ApplicationID) (*keymanager.Application, error) {
	if !storable(id) {
		return nil, notFound(applicationLabel(id))
	}
	return one(ctx, s.q, scanApplication, applicationLabel(id),
		`SELECT `+applicationColumns+` FROM application WHERE id = $1`, id)
}

// ApplicationByName reads one by name.
func (s *Store) ApplicationByName(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.Application, error) {
	what := fmt.Sprintf("application %q", name)
	if !storable(string(org), name) {
		return nil, notFound(what)
	}
	return one(ctx, s.q, scanApplication, what,
		`SELECT `+applicationColumns+` FROM application WHERE organization = $1 AND name = $2`, org, name)
}

// Applications lists those of an organization by name.
func (s *Store) Applications(ctx context.Context, org keymanager.OrganizationID, p store.Page) ([]keymanager.Application, int, error) {
	return list(ctx, s.q, p, scanApplication,
		`SELECT `+applicationColumns+` FROM application WHERE organization = $1 ORDER BY name LIMIT $2 OFFSET $3`,
		`SELECT count(*) FROM application WHERE organization = $1`, org)
}

func staleApplication(id keymanager.ApplicationID) store.LogEvent {
	return store.LogEvent{Stale: &keymanager.Stale{Application: id}}
}

func applicationLabel(id keymanager.ApplicationID) string { return fmt.Sprintf("application %q", id) }
