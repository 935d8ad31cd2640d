package storetest

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testClients(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	c := newClient(w.Application.ID, keymanager.Sandbox)
	wantEvents(t, s, "create", func() error { return s.CreateClient(ctx, &c) })
	wantSame(t, "list", get(s.Clients(ctx, w.Application.ID))(t), []keymanager.Client{w.Client, c})
	again := newClient(w.Application.ID, keymanager.Sandbox)
	wantFails(t, s, "a second key of the type", keymanager.KindConflict, func() error { return s.CreateClient(ctx, &again) })
	stray := newClient("nowhere", keymanager.Sandbox)
	wantFails(t, s, "unknown application", keymanager.KindConflict, func() error { return s.CreateClient(ctx, &stray) })

	c.GrantTypes, c.AuthMethod, c.TokenLifetime = []string{"client_credentials", "password"}, "", 0
	wantEvents(t, s, "update", func() error { return s.UpdateClient(ctx, &c) }, staleApp(w.Application.ID))
	wantSame(t, "updated", get(s.Clients(ctx, w.Application.ID))(t)[1], c)
	wantFails(t, s, "update a missing one", keymanager.KindNotFound, func() error { return s.UpdateClient(ctx, &stray) })

	newest := newSecret(c.ConsumerKey)
	newest.CreatedAt, newest.ExpiresAt = time.Time{}, time.Time{}
	wantEvents(t, s, "create a secret", func() error { return s.CreateSecret(ctx, &newest) })
	if newest.CreatedAt.IsZero() {
		t.Error("a secret without a time of creation got none")
	}
	first := newSecret(c.ConsumerKey)
	must(t, s.CreateSecret(ctx, &first))
	wantSame(t, "secrets, oldest first", get(s.Secrets(ctx, c.ConsumerKey))(t), []keymanager.ClientSecret{first, newest})
	orphan := newSecret("nobody")
	wantFails(t, s, "a secret of an unknown client", keymanager.KindConflict, func() error { return s.CreateSecret(ctx, &orphan) })
	wantFails(t, s, "delete the secret of another client", keymanager.KindNotFound, func() error {
		return s.DeleteSecret(ctx, w.Client.ConsumerKey, first.ID)
	})
	wantEvents(t, s, "delete a secret", func() error { return s.DeleteSecret(ctx, c.ConsumerKey, first.ID) })
	wantSame(t, "secrets", get(s.Secrets(ctx, c.ConsumerKey))(t), []keymanager.ClientSecret{newest})

	token := newToken(&c, w.Owner.ID)
	must(t, s.CreateToken(ctx, &token))
	before := head(t, s)
	must(t, s.DeleteClient(ctx, c.ConsumerKey))
	events := get(s.Events(ctx, before, 10))(t)
	if len(events) != 2 || events[0].Dead == nil || events[0].Dead.ConsumerKey != c.ConsumerKey ||
		events[1].Stale == nil || events[1].Stale.Application != w.Application.ID {
		t.Errorf("delete: events %+v", events)
	}
	wantKind(t, "the token of a deleted client", second(s.TokenByDigest(ctx, token.Digest)), keymanager.KindNotFound)
	if n := len(get(s.Secrets(ctx, c.ConsumerKey))(t)); n != 0 {
		t.Errorf("%d secrets are left", n)
	}
	// A token that was being issued meanwhile is nothing without its client.
	late := newToken(&c, w.Owner.ID)
	must(t, s.CreateToken(ctx, &late))
	wantKind(t, "a token issued too late", second(s.TokenByDigest(ctx, late.Digest)), keymanager.KindNotFound)
	if f, _, err := s.TokenFacts(ctx, late.Digest, w.API.ID); f != nil || err != nil {
		t.Errorf("facts of a token without its client: %+v, %v", f, err)
	}
	wantFails(t, s, "delete again", keymanager.KindNotFound, func() error { return s.DeleteClient(ctx, c.ConsumerKey) })
}

func testClientFacts(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	older := newSecret(w.Client.ConsumerKey)
	older.CreatedAt = t0.Add(-time.Hour)
	must(t, s.CreateSecret(ctx, &older))
	want := &store.ClientFacts{Client: w.Client, Application: w.Application, Owner: w.Owner,
		Secrets:   []keymanager.ClientSecret{older, w.Secret},
		APIScopes: []keymanager.Scope{"pets:all", "pets:read"}}
	wantSame(t, "facts", get(s.ClientFacts(ctx, w.Client.ConsumerKey))(t), want)

	// A second API adds its scopes, each once.
	a := newAPI(w.Org.ID, "Orders")
	a.Resources = []keymanager.Resource{{Method: "GET", Path: "/", Scopes: []keymanager.Scope{"orders", "pets:all"}}}
	must(t, s.CreateAPI(ctx, &a))
	sub := newSubscription(&w.Application, &a)
	must(t, s.CreateSubscription(ctx, &sub))
	for state, reach := range map[keymanager.SubscriptionState]bool{
		keymanager.Unblocked: true, keymanager.Blocked: true, keymanager.ProdOnlyBlocked: true, keymanager.TierUpdatePending: true,
		keymanager.OnHold: false, keymanager.Rejected: false, "": false,
	} {
		sub.State = state
		must(t, s.UpdateSubscription(ctx, &sub))
		scopes := []keymanager.Scope{"orders", "pets:all", "pets:read"}
		if !reach {
			scopes = scopes[1:]
		}
		wantSame(t, "scopes when "+string(state), get(s.ClientFacts(ctx, w.Client.ConsumerKey))(t).APIScopes, scopes)
	}

	bare := newApplication(&w.Owner, "Bare")
	must(t, s.CreateApplication(ctx, &bare))
	c := newClient(bare.ID, keymanager.Sandbox)
	must(t, s.CreateClient(ctx, &c))
	wantSame(t, "no secret, no subscription", get(s.ClientFacts(ctx, c.ConsumerKey))(t),
		&store.ClientFacts{Client: c, Application: bare, Owner: w.Owner})
	wantKind(t, "unknown", second(s.ClientFacts(ctx, "nobody")), keymanager.KindNotFound)
}
