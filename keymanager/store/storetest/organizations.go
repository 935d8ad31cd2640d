package storetest

import (
	"fmt"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testOrganizations(t *testing.T, s store.Store) {
	ctx := t.Context()
	o := keymanager.Organization{ID: "acme", DisplayName: "Acme"}
	wantEvents(t, s, "create", func() error { return s.CreateOrganization(ctx, &o) })
	if o.Revision != 1 || o.CreatedAt.IsZero() || !o.UpdatedAt.Equal(o.CreatedAt) {
		t.Errorf("after create: %+v", o.Meta)
	}
	wantSame(t, "read", get(s.Organization(ctx, "acme"))(t), &o)
	wantFails(t, s, "create again", keymanager.KindConflict, func() error {
		return s.CreateOrganization(ctx, &keymanager.Organization{ID: "acme"})
	})

	old := o
	o.DisplayName = "Acme Ltd"
	must(t, s.UpdateOrganization(ctx, &o))
	if o.Revision != 2 || !o.CreatedAt.Equal(old.CreatedAt) || o.UpdatedAt.Before(old.UpdatedAt) {
		t.Errorf("after update: %+v, before: %+v", o.Meta, old.Meta)
	}
	wantSame(t, "read", get(s.Organization(ctx, "acme"))(t), &o)
	wantFails(t, s, "update an old revision", keymanager.KindPrecondition, func() error { return s.UpdateOrganization(ctx, &old) })
	if old.Revision != 1 {
		t.Errorf("a refused update set the revision %d", old.Revision)
	}
	old.Revision = 0
	must(t, s.UpdateOrganization(ctx, &old))
	if old.Revision != 3 {
		t.Errorf("unconditional update: revision %d, want 3", old.Revision)
	}
	wantFails(t, s, "update a missing one", keymanager.KindNotFound, func() error {
		return s.UpdateOrganization(ctx, &keymanager.Organization{ID: "nobody", Meta: keymanager.Meta{Revision: 1}})
	})
	wantKind(t, "read a missing one", second(s.Organization(ctx, "nobody")), keymanager.KindNotFound)

	for i := range 4 {
		must(t, s.CreateOrganization(ctx, &keymanager.Organization{ID: keymanager.OrganizationID(fmt.Sprintf("b%d", 3-i))}))
	}
	page, total, err := s.Organizations(ctx, store.Page{Offset: 1, Limit: 2})
	must(t, err)
	if len(page) != 2 || total != 5 || page[0].ID != "b0" || page[1].ID != "b1" {
		t.Errorf("page: %d of %d: %+v", len(page), total, page)
	}
	page, total, err = s.Organizations(ctx, store.Page{Offset: 9})
	must(t, err)
	if len(page) != 0 || total != 5 {
		t.Errorf("page after the end: %d of %d", len(page), total)
	}

	w := create(t, s)
	wantFails(t, s, "delete one in use", keymanager.KindConflict, func() error { return s.DeleteOrganization(ctx, w.Org.ID) })
	wantFails(t, s, "delete a missing one", keymanager.KindNotFound, func() error { return s.DeleteOrganization(ctx, "nobody") })
	tier := keymanager.Tier{Organization: "acme", Name: "Gold"}
	must(t, s.CreateTier(ctx, &tier))
	wantEvents(t, s, "delete with its tiers", func() error { return s.DeleteOrganization(ctx, "acme") },
		store.LogEvent{Tier: &keymanager.TierRef{Organization: "acme", Name: "Gold"}})
	wantKind(t, "read a deleted one", second(s.Organization(ctx, "acme")), keymanager.KindNotFound)
}

func second[T any](_ T, err error) error { return err }
