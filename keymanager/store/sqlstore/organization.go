package sqlstore

import (
	"context"
	"fmt"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const organizationColumns = `id, display_name, created_at, updated_at, revision`

func scanOrganization(r db.Row, o *keymanager.Organization) error {
	return r.Scan(&o.ID, &o.DisplayName, millis{&o.CreatedAt}, millis{&o.UpdatedAt}, &o.Revision)
}

// CreateOrganization adds an organization.
func (s *Store) CreateOrganization(ctx context.Context, o *keymanager.Organization) error {
	return s.write(ctx, func(s *Store) error {
		s.created(&o.Meta)
		_, err := s.q.Exec(ctx, `INSERT INTO organization (`+organizationColumns+`) VALUES ($1, $2, $3, $4, $5)`,
			o.ID, o.DisplayName, ms(o.CreatedAt), ms(o.UpdatedAt), o.Revision)
		return explain(err, organizationLabel(o.ID)+" exists already", "")
	})
}

// UpdateOrganization changes its display name.
func (s *Store) UpdateOrganization(ctx context.Context, o *keymanager.Organization) error {
	return s.write(ctx, func(s *Store) error {
		return s.updated(ctx, &o.Meta, organizationLabel(o.ID),
			func() error { _, err := s.Organization(ctx, o.ID); return err },
			`UPDATE organization SET display_name = $2, updated_at = $3, revision = revision + 1
			WHERE id = $1 AND (CAST($4 AS BIGINT) = 0 OR revision = $4) RETURNING created_at, revision`,
			o.ID, o.DisplayName)
	})
}

// DeleteOrganization removes an organization and its tiers.
func (s *Store) DeleteOrganization(ctx context.Context, id keymanager.OrganizationID) error {
	return s.write(ctx, func(s *Store) error {
		var tiers []store.LogEvent
		err := s.q.Query(ctx, func(r db.Row) error {
			ref := keymanager.TierRef{Organization: id}
			err := r.Scan(&ref.Name)
			tiers = append(tiers, store.LogEvent{Tier: &ref})
			return err
		}, `DELETE FROM tier WHERE organization = $1 RETURNING name`, id)
		if err != nil {
			return explain(err, "", organizationLabel(id)+" is still in use")
		}
		if err := s.deleted(ctx, organizationLabel(id), `DELETE FROM organization WHERE id = $1`, id); err != nil {
			return err
		}
		return s.Append(ctx, tiers...)
	})
}

// Organization reads one.
func (s *Store) Organization(ctx context.Context, id keymanager.OrganizationID) (*keymanager.Organization, error) {
	if !storable(id) {
		return nil, notFound(organizationLabel(id))
	}
	return one(ctx, s.q, scanOrganization, organizationLabel(id),
		`SELECT `+organizationColumns+` FROM organization WHERE id = $1`, id)
}

// Organizations lists them by name.
func (s *Store) Organizations(ctx context.Context, p store.Page) ([]keymanager.Organization, int, error) {
	return list(ctx, s.q, p, scanOrganization,
		`SELECT `+organizationColumns+` FROM organization ORDER BY id LIMIT $1 OFFSET $2`,
		`SELECT count(*) FROM organization`)
}

func organizationLabel(id keymanager.OrganizationID) string {
	return fmt.Sprintf("organization %q", id)
}
