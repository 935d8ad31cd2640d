package storetest

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testTiers(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	tier := keymanager.Tier{Organization: w.Org.ID, Name: "Copper", DisplayName: "Cu", Requests: 7, Unit: time.Hour, StopOnQuota: true}
	event := func(name keymanager.TierName) store.LogEvent {
		return store.LogEvent{Tier: &keymanager.TierRef{Organization: w.Org.ID, Name: name}}
	}
	wantEvents(t, s, "create", func() error { return s.CreateTier(ctx, &tier) }, event("Copper"))
	wantSame(t, "read", get(s.Tier(ctx, w.Org.ID, "Copper"))(t), &tier)
	wantFails(t, s, "create again", keymanager.KindConflict, func() error {
		return s.CreateTier(ctx, &keymanager.Tier{Organization: w.Org.ID, Name: "Copper"})
	})
	tier.Requests, tier.StopOnQuota = 8, false
	wantEvents(t, s, "update", func() error { return s.UpdateTier(ctx, &tier) }, event("Copper"))
	wantSame(t, "updated", get(s.Tier(ctx, w.Org.ID, "Copper"))(t), &tier)
	wantFails(t, s, "update a missing one", keymanager.KindNotFound, func() error {
		return s.UpdateTier(ctx, &keymanager.Tier{Organization: w.Org.ID, Name: "Tin"})
	})
	page, total, err := s.Tiers(ctx, w.Org.ID, store.Page{Limit: 3})
	must(t, err)
	if total != 6 || len(page) != 3 || page[0].Name != "Bronze" || page[1].Name != "Copper" || page[2].Name != "Gold" {
		t.Errorf("page: %d of %d: %+v", len(page), total, page)
	}
	create(t, s)
	n := 0
	must(t, s.AllTiers(ctx, func(*keymanager.Tier) error { n++; return nil }))
	if n != 11 {
		t.Errorf("all tiers: %d, want 11", n)
	}

	for name, user := range map[keymanager.TierName]string{"Silver": "an application", "Bronze": "an API", "Gold": "a resource and a subscription"} {
		wantFails(t, s, "delete the tier of "+user, keymanager.KindConflict, func() error { return s.DeleteTier(ctx, w.Org.ID, name) })
	}
	w.Subscription.PendingTier, w.Subscription.State = "Copper", keymanager.TierUpdatePending
	must(t, s.UpdateSubscription(ctx, &w.Subscription))
	wantFails(t, s, "delete a pending tier", keymanager.KindConflict, func() error { return s.DeleteTier(ctx, w.Org.ID, "Copper") })
	w.Subscription.PendingTier, w.Subscription.State = "", keymanager.Unblocked
	must(t, s.UpdateSubscription(ctx, &w.Subscription))
	wantEvents(t, s, "delete", func() error { return s.DeleteTier(ctx, w.Org.ID, "Copper") }, event("Copper"))
	wantFails(t, s, "delete again", keymanager.KindNotFound, func() error { return s.DeleteTier(ctx, w.Org.ID, "Copper") })
}
