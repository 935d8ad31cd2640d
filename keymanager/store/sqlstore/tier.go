package sqlstore

import (
	"context"
	"fmt"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const tierColumns = `organization, name, display_name, requests, unit_ms, stop_on_quota, created_at, updated_at, revision`

func scanTier(r db.Row, t *keymanager.Tier) error {
	return r.Scan(&t.Organization, &t.Name, &t.DisplayName, &t.Requests, duration{&t.Unit}, &t.StopOnQuota,
		millis{&t.CreatedAt}, millis{&t.UpdatedAt}, &t.Revision)
}

// CreateTier adds a tier and publishes it.
func (s *Store) CreateTier(ctx context.Context, t *keymanager.Tier) error {
	return s.write(ctx, func(s *Store) error {
		s.created(&t.Meta)
		_, err := s.q.Exec(ctx, `INSERT INTO tier (`+tierColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			t.Organization, t.Name, t.DisplayName, t.Requests, t.Unit.Milliseconds(), t.StopOnQuota,
			ms(t.CreatedAt), ms(t.UpdatedAt), t.Revision)
		if err != nil {
			return explain(err, tierLabel(t.Name)+" exists already", organizationLabel(t.Organization)+" does not exist")
		}
		return s.Append(ctx, tierEvent(t.Organization, t.Name))
	})
}

// UpdateTier changes a tier and publishes it.
func (s *Store) UpdateTier(ctx context.Context, t *keymanager.Tier) error {
	return s.write(ctx, func(s *Store) error {
		err := s.updated(ctx, &t.Meta, tierLabel(t.Name),
			func() error { _, err := s.Tier(ctx, t.Organization, t.Name); return err },
			`UPDATE tier SET display_name = $3, requests = $4, unit_ms = $5, stop_on_quota = $6, updated_at = $7, revision = revision + 1
			WHERE organization = $1 AND name = $2 AND (CAST($8 AS BIGINT) = 0 OR revision = $8) RETURNING created_at, revision`,
			t.Organization, t.Name, t.DisplayName, t.Requests, t.Unit.Milliseconds(), t.StopOnQuota)
		if err != nil {
			return failure(err)
		}
		return s.Append(ctx, tierEvent(t.Organization, t.Name))
	})
}

// DeleteTier removes a tier that nothing names.
func (s *Store) DeleteTier(ctx context.Context, org keymanager.OrganizationID, name keymanager.TierName) error {
	return s.write(ctx, func(s *Store) error {
		if err := s.deleted(ctx, tierLabel(name), `DELETE FROM tier WHERE organization = $1 AND name = $2`, org, name); err != nil {
			return err
		}
		return s.Append(ctx, tierEvent(org, name))
	})
}

// Tier reads one.
func (s *Store) Tier(ctx context.Context, org keymanager.OrganizationID, name keymanager.TierName) (*keymanager.Tier, error) {
	if !storable(string(org), string(name)) {
		return nil, notFound(tierLabel(name))
	}
	return one(ctx, s.q, scanTier, tierLabel(name),
		`SELECT `+tierColumns+` FROM tier WHERE organization = $1 AND name = $2`, org, name)
}

// Tiers lists those of an organization by name.
func (s *Store) Tiers(ctx context.Context, org keymanager.OrganizationID, p store.Page) ([]keymanager.Tier, int, error) {
	return list(ctx, s.q, p, scanTier,
		`SELECT `+tierColumns+` FROM tier WHERE organization = $1 ORDER BY name LIMIT $2 OFFSET $3`,
		`SELECT count(*) FROM tier WHERE organization = $1`, org)
}

// AllTiers calls fn for every tier.
func (s *Store) AllTiers(ctx context.Context, fn func(*keymanager.Tier) error) error {
	tiers, err := all(ctx, s.q, scanTier, `SELECT `+tierColumns+` FROM tier ORDER BY organization, name`)
	if err != nil {
		return err
	}
	for i := range tiers {
		if err := fn(&tiers[i]); err != nil {
			return err
		}
	}
	return nil
}

func tierEvent(org keymanager.OrganizationID, name keymanager.TierName) store.LogEvent {
	return store.LogEvent{Tier: &keymanager.TierRef{Organization: org, Name: name}}
}

func tierLabel(name keymanager.TierName) string { return fmt.Sprintf("tier %q", name) }
