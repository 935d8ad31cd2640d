package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testApplications(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	a := newApplication(&w.Owner, "Till")
	wantEvents(t, s, "create", func() error { return s.CreateApplication(ctx, &a) })
	wantSame(t, "by id", get(s.Application(ctx, a.ID))(t), &a)
	wantSame(t, "by name", get(s.ApplicationByName(ctx, w.Org.ID, "Till"))(t), &a)
	bare := keymanager.Application{ID: keymanager.ApplicationID(id("app")), Organization: w.Org.ID, Name: "Bare", Owner: w.Owner.ID, BuiltIn: true}
	must(t, s.CreateApplication(ctx, &bare))
	wantSame(t, "an application without optional fields", get(s.Application(ctx, bare.ID))(t), &bare)

	same := newApplication(&w.Owner, "Till")
	wantFails(t, s, "same name", keymanager.KindConflict, func() error { return s.CreateApplication(ctx, &same) })
	same.Name, same.Owner = "Other", "nobody"
	wantFails(t, s, "unknown owner", keymanager.KindConflict, func() error { return s.CreateApplication(ctx, &same) })
	same.Owner, same.Tier = w.Owner.ID, "Tin"
	wantFails(t, s, "unknown tier", keymanager.KindConflict, func() error { return s.CreateApplication(ctx, &same) })

	a.Status, a.Tier, a.Attributes, a.Scopes = keymanager.ApplicationRejected, "", map[string]string{}, nil
	wantEvents(t, s, "update", func() error { return s.UpdateApplication(ctx, &a) }, staleApp(a.ID))
	wantSame(t, "updated", get(s.Application(ctx, a.ID))(t), &a)
	old := a
	old.Revision--
	wantFails(t, s, "update an old revision", keymanager.KindPrecondition, func() error { return s.UpdateApplication(ctx, &old) })
	old.Revision, old.Name = 0, "Bare"
	wantFails(t, s, "rename to a taken name", keymanager.KindConflict, func() error { return s.UpdateApplication(ctx, &old) })

	page, total, err := s.Applications(ctx, w.Org.ID, store.Page{Limit: 2})
	must(t, err)
	if total != 3 || len(page) != 2 || page[0].Name != "Bare" || page[1].Name != "Shop" {
		t.Errorf("page: %d of %d: %+v", len(page), total, page)
	}
	testDeleteApplication(t, s, w)
}

// testDeleteApplication checks that everything goes, and that everybody is told.
func testDeleteApplication(t *testing.T, s store.Store, w *world) {
	t.Helper()
	ctx := t.Context()
	sandbox := newClient(w.Application.ID, keymanager.Sandbox)
	must(t, s.CreateClient(ctx, &sandbox))
	token := newToken(&w.Client, w.Owner.ID)
	token.ExpiresAt = time.Now().UTC().Truncate(time.Millisecond).Add(48 * time.Hour)
	must(t, s.CreateToken(ctx, &token))
	k1, k2 := newAPIKey(w.Application.ID, "one"), newAPIKey(w.Application.ID, "two")
	k2.ExpiresAt = time.Time{}
	must(t, s.CreateAPIKey(ctx, &k1))
	must(t, s.CreateAPIKey(ctx, &k2))

	before := head(t, s)
	start := time.Now().Truncate(time.Millisecond)
	must(t, s.DeleteApplication(ctx, w.Application.ID))
	end := time.Now()
	clients := map[keymanager.ConsumerKey]keymanager.Dead{}
	keys := map[keymanager.TokenID]time.Time{}
	stale := 0
	for _, e := range get(s.Events(ctx, before, 100))(t) {
		switch {
		case e.Dead != nil && e.Dead.ConsumerKey != "":
			clients[e.Dead.ConsumerKey] = *e.Dead
			if e.Dead.NotBefore.Before(start) || e.Dead.NotBefore.After(end) {
				t.Errorf("%s is dead before %s, want between %s and %s", e.Dead.ConsumerKey, e.Dead.NotBefore, start, end)
			}
		case e.Dead != nil:
			keys[e.Dead.TokenID] = e.Dead.ExpiresAt
		case cmp.Equal(e.Stale, &keymanager.Stale{Application: w.Application.ID}):
			stale++
		default:
			t.Errorf("unexpected event %+v", e)
		}
	}
	if len(clients) != 2 || !clients[w.Client.ConsumerKey].ExpiresAt.Equal(token.ExpiresAt) || clients[sandbox.ConsumerKey].ExpiresAt.Before(start) {
		t.Errorf("dead clients: %+v", clients)
	}
	wantSame(t, "dead API keys", keys, map[keymanager.TokenID]time.Time{k1.ID: k1.ExpiresAt, k2.ID: {}})
	if stale != 1 {
		t.Errorf("the application is stale %d times, want 1", stale)
	}

	wantKind(t, "application", second(s.Application(ctx, w.Application.ID)), keymanager.KindNotFound)
	wantKind(t, "client", second(s.ClientFacts(ctx, w.Client.ConsumerKey)), keymanager.KindNotFound)
	wantKind(t, "token", second(s.TokenByDigest(ctx, token.Digest)), keymanager.KindNotFound)
	wantKind(t, "API key", second(s.APIKey(ctx, k1.ID)), keymanager.KindNotFound)
	wantKind(t, "subscription", second(s.Subscription(ctx, w.Subscription.ID)), keymanager.KindNotFound)
	if n := len(get(s.Secrets(ctx, w.Client.ConsumerKey))(t)); n != 0 {
		t.Errorf("%d secrets are left", n)
	}
	if f, _, err := s.TokenFacts(ctx, token.Digest, w.API.ID); f != nil || err != nil {
		t.Errorf("facts of a deleted token: %+v, %v", f, err)
	}
	wantFails(t, s, "delete again", keymanager.KindNotFound, func() error { return s.DeleteApplication(ctx, w.Application.ID) })
}
