package storetest

import (
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testSubscriptions(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	a := newAPI(w.Org.ID, "Orders")
	must(t, s.CreateAPI(ctx, &a))
	u := newSubscription(&w.Application, &a)
	stale := staleApp(w.Application.ID)
	wantEvents(t, s, "create", func() error { return s.CreateSubscription(ctx, &u) }, stale)
	wantSame(t, "by id", get(s.Subscription(ctx, u.ID))(t), &u)
	wantSame(t, "by name", get(s.SubscriptionByName(ctx, w.Org.ID, u.Name))(t), &u)

	again := newSubscription(&w.Application, &a)
	wantFails(t, s, "the same pair", keymanager.KindConflict, func() error { return s.CreateSubscription(ctx, &again) })
	other := newApplication(&w.Owner, "Other")
	must(t, s.CreateApplication(ctx, &other))
	again.ApplicationID, again.Name = other.ID, u.Name
	wantFails(t, s, "the same name", keymanager.KindConflict, func() error { return s.CreateSubscription(ctx, &again) })
	again.Name = again.Name + "x"
	for what, change := range map[string]func(*keymanager.Subscription){
		"application": func(u *keymanager.Subscription) { u.ApplicationID = "none" },
		"API":         func(u *keymanager.Subscription) { u.APIID = "none" },
		"tier":        func(u *keymanager.Subscription) { u.Tier = "Tin" },
	} {
		bad := again
		change(&bad)
		wantFails(t, s, "unknown "+what, keymanager.KindConflict, func() error { return s.CreateSubscription(ctx, &bad) })
	}
	must(t, s.CreateSubscription(ctx, &again))

	u.State, u.PendingTier = keymanager.TierUpdatePending, "Bronze"
	wantEvents(t, s, "update", func() error { return s.UpdateSubscription(ctx, &u) }, stale)
	wantSame(t, "updated", get(s.Subscription(ctx, u.ID))(t), &u)
	old := u
	old.Revision--
	wantFails(t, s, "update an old revision", keymanager.KindPrecondition, func() error { return s.UpdateSubscription(ctx, &old) })
	missing := newSubscription(&w.Application, &a)
	wantFails(t, s, "update a missing one", keymanager.KindNotFound, func() error { return s.UpdateSubscription(ctx, &missing) })

	for _, c := range []struct {
		filter store.SubscriptionFilter
		want   int
	}{
		{store.SubscriptionFilter{}, 3},
		{store.SubscriptionFilter{Application: w.Application.ID}, 2},
		{store.SubscriptionFilter{API: a.ID}, 2},
		{store.SubscriptionFilter{Application: other.ID, API: a.ID}, 1},
		{store.SubscriptionFilter{Application: other.ID, API: w.API.ID}, 0},
	} {
		page, total, err := s.Subscriptions(ctx, w.Org.ID, c.filter, store.Page{})
		must(t, err)
		if total != c.want || len(page) != c.want {
			t.Errorf("%+v: %d of %d, want %d", c.filter, len(page), total, c.want)
		}
	}

	wantEvents(t, s, "delete", func() error { return s.DeleteSubscription(ctx, u.ID) }, stale)
	wantFails(t, s, "delete again", keymanager.KindNotFound, func() error { return s.DeleteSubscription(ctx, u.ID) })
	wantKind(t, "read a deleted one", second(s.Subscription(ctx, u.ID)), keymanager.KindNotFound)
}
