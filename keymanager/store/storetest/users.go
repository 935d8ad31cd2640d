package storetest

import (
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testUsers(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	u := newUser(w.Org.ID, "bob")
	wantEvents(t, s, "create", func() error { return s.CreateUser(ctx, &u) })
	wantSame(t, "by id", get(s.User(ctx, u.ID))(t), &u)
	wantSame(t, "by name", get(s.UserByName(ctx, w.Org.ID, keymanager.PrimaryUserStore, "bob"))(t), &u)
	wantKind(t, "by name in another store", second(s.UserByName(ctx, w.Org.ID, "FOO.COM", "bob")), keymanager.KindNotFound)
	wantKind(t, "by name in another case", second(s.UserByName(ctx, w.Org.ID, keymanager.PrimaryUserStore, "Bob")), keymanager.KindNotFound)

	same := newUser(w.Org.ID, "bob")
	wantFails(t, s, "same name", keymanager.KindConflict, func() error { return s.CreateUser(ctx, &same) })
	same.UserStore = "FOO.COM"
	must(t, s.CreateUser(ctx, &same))
	stranger := newUser("nowhere", "carl")
	wantFails(t, s, "unknown organization", keymanager.KindConflict, func() error { return s.CreateUser(ctx, &stranger) })

	second2 := newApplication(&w.Owner, "Second")
	must(t, s.CreateApplication(ctx, &second2))
	w.Owner.Status = keymanager.UserDisabled
	wantEvents(t, s, "update", func() error { return s.UpdateUser(ctx, &w.Owner) },
		store.LogEvent{Stale: &keymanager.Stale{User: w.Owner.ID}}, staleApp(w.Application.ID), staleApp(second2.ID))
	wantSame(t, "updated", get(s.User(ctx, w.Owner.ID))(t), &w.Owner)
	u.Revision = 9
	wantFails(t, s, "update another revision", keymanager.KindPrecondition, func() error { return s.UpdateUser(ctx, &u) })
	u.Revision, u.UserStore = 0, "FOO.COM"
	wantFails(t, s, "rename to a taken name", keymanager.KindConflict, func() error { return s.UpdateUser(ctx, &u) })

	page, total, err := s.Users(ctx, w.Org.ID, store.Page{Limit: 2})
	must(t, err)
	if total != 3 || len(page) != 2 || page[0].FullName() != "FOO.COM/bob" || page[1].FullName() != "PRIMARY/alice" {
		t.Errorf("page: %d of %d: %+v", len(page), total, page)
	}

	wantFails(t, s, "delete an owner", keymanager.KindConflict, func() error { return s.DeleteUser(ctx, w.Owner.ID) })
	wantEvents(t, s, "delete", func() error { return s.DeleteUser(ctx, u.ID) }, store.LogEvent{Stale: &keymanager.Stale{User: u.ID}})
	wantFails(t, s, "delete again", keymanager.KindNotFound, func() error { return s.DeleteUser(ctx, u.ID) })
	wantKind(t, "read a deleted one", second(s.User(ctx, u.ID)), keymanager.KindNotFound)
}
