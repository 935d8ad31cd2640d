package admin

import (
	"context"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// OrganizationSpec is the JSON of an organization.
type OrganizationSpec struct {
	DisplayName string `json:"displayName,omitempty" doc:"default: the name" example:"Acme Ltd"`
}

func organizations() *managed[keymanager.Organization, OrganizationSpec] {
	return &managed[keymanager.Organization, OrganizationSpec]{
		kind: kindOrganization, rank: 0, put: "put-organization",
		find: func(ctx context.Context, l *lookup, org keymanager.OrganizationID, _ string) (*keymanager.Organization, error) {
			return l.organization(ctx, org)
		},
		build: buildOrganization,
		show: func(_ context.Context, _ *lookup, o *keymanager.Organization) (*OrganizationSpec, error) {
			return &OrganizationSpec{DisplayName: o.DisplayName}, nil
		},
		about: func(_ context.Context, _ *lookup, o *keymanager.Organization) (Object[OrganizationSpec], error) {
			return Object[OrganizationSpec]{
				Organization: string(o.ID), Name: string(o.ID), ID: string(o.ID),
				Revision: o.Revision, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
			}, nil
		},
		id:     func(o *keymanager.Organization) any { return o.ID },
		create: createOrganization,
		update: func(ctx context.Context, tx *txn, o *keymanager.Organization) error {
			return tx.st.UpdateOrganization(ctx, o)
		},
		remove: func(ctx context.Context, tx *txn, o *keymanager.Organization) error {
			if o.ID == SystemOrganization {
				return keymanager.Errorf(keymanager.KindConflict, "the organization %s is the key manager's own and cannot be deleted", o.ID)
			}
			return tx.st.DeleteOrganization(ctx, o.ID)
		},
	}
}

func buildOrganization(_ context.Context, tx *txn, c *checks, org keymanager.OrganizationID, _ string, s *OrganizationSpec, old *keymanager.Organization) (*keymanager.Organization, error) {
	o := &keymanager.Organization{ID: org, DisplayName: s.DisplayName}
	if o.DisplayName == "" {
		o.DisplayName = string(org)
	}
	if old != nil {
		o.Meta = old.Meta
	} else {
		for _, t := range keymanager.DefaultTiers(org) { // documents after it may name them
			tx.look.remember(ref{kindTier, org, string(t.Name)}, keymanager.TierRef{Organization: org, Name: t.Name}, &t)
		}
	}
	c.fields = append(c.fields, keymanager.ValidateOrganization(o)...)
	return o, nil
}

// createOrganization makes an organization with its default tiers.
func createOrganization(ctx context.Context, tx *txn, o *keymanager.Organization) error {
	if err := tx.st.CreateOrganization(ctx, o); err != nil {
		return err
	}
	k := tiers()
	for _, t := range keymanager.DefaultTiers(o.ID) {
		if err := tx.st.CreateTier(ctx, &t); err != nil {
			return err
		}
		spec, err := k.show(ctx, tx.look, &t)
		if err != nil {
			return err
		}
		if err := tx.audit(ctx, o.ID, "create", kindTier, string(t.Name), nil, spec); err != nil {
			return err
		}
	}
	return nil
}

func mountOrganizations(m *mount) {
	k := organizations()
	m.kinds[k.kind] = k
	mountManaged(m, resource[keymanager.Organization, OrganizationSpec]{
		kind: k, one: "organization", many: "organizations",
		collection: "/organizations", item: "/{org}",
		list: func(ctx context.Context, st store.Store, _ keymanager.OrganizationID, p store.Page) ([]keymanager.Organization, int, error) {
			caller := requestOf(ctx).caller
			if caller.system() {
				return st.Organizations(ctx, p)
			}
			own, err := st.Organization(ctx, caller.Organization)
			if err != nil || p.Offset > 0 {
				return nil, 1, err
			}
			return []keymanager.Organization{*own}, 1, nil
		},
	})
}
