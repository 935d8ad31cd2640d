package storetest

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testTokenFacts(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	user := newUser(w.Org.ID, "bob")
	user.UserStore = "FOO.COM"
	must(t, s.CreateUser(ctx, &user))
	token := newToken(&w.Client, user.ID)
	token.UserType = keymanager.UserTypeApplicationUser
	token.Scopes = append(token.Scopes, keymanager.ScopePublish, keymanager.ScopeAdmin) // the application never had the last
	must(t, s.CreateToken(ctx, &token))

	read := func() *store.Facts {
		t.Helper()
		f, pos, err := s.TokenFacts(ctx, token.Digest, w.API.ID)
		must(t, err)
		if want := get(s.Head(ctx))(t); pos != want {
			t.Errorf("head %v, want %v", pos, want)
		}
		return f
	}
	want := &store.Facts{
		Head: get(s.Head(ctx))(t), TokenID: token.ID, IssuedAt: token.IssuedAt, ExpiresAt: token.ExpiresAt,
		ApplicationStatus: keymanager.ApplicationApproved, OwnerStatus: keymanager.UserActive, UserStatus: keymanager.UserActive,
		Grant: keymanager.Grant{
			Organization: w.Org.ID, ConsumerKey: w.Client.ConsumerKey, KeyType: keymanager.Production,
			Application: keymanager.GrantApplication{ID: w.Application.ID, Name: "Shop", Tier: "Silver", Attributes: w.Application.Attributes},
			Subscriber:  "PRIMARY/alice", User: "FOO.COM/bob", UserID: user.ID, UserStore: "FOO.COM",
			UserType: keymanager.UserTypeApplicationUser, Scopes: token.Scopes[:2],
			Subscription: &keymanager.GrantSubscription{ID: w.Subscription.ID, State: keymanager.Unblocked, Tier: "Gold"},
		}}
	wantSame(t, "facts", read(), want)

	// Each change is seen at once, with the head that tells of it.
	step := func(what string, change func() error, expect func()) {
		t.Helper()
		must(t, change())
		expect()
		want.Head = get(s.Head(ctx))(t)
		wantSame(t, what, read(), want)
	}
	w.Subscription.State, w.Subscription.PendingTier = keymanager.TierUpdatePending, "Bronze"
	step("subscription", func() error { return s.UpdateSubscription(ctx, &w.Subscription) },
		func() { want.Grant.Subscription.State = keymanager.TierUpdatePending })
	step("no subscription", func() error { return s.DeleteSubscription(ctx, w.Subscription.ID) },
		func() { want.Grant.Subscription = nil })
	w.Application.Scopes = []keymanager.Scope{keymanager.ScopeSubscribe}
	step("scope taken from the application", func() error { return s.UpdateApplication(ctx, &w.Application) },
		func() { want.Grant.Scopes = token.Scopes[:1] })
	w.Application.Status, w.Application.Attributes, w.Application.Tier = keymanager.ApplicationRejected, nil, ""
	step("application", func() error { return s.UpdateApplication(ctx, &w.Application) },
		func() {
			want.ApplicationStatus = keymanager.ApplicationRejected
			want.Grant.Application.Attributes, want.Grant.Application.Tier = nil, ""
		})
	w.Owner.Status = keymanager.UserDisabled
	step("owner", func() error { return s.UpdateUser(ctx, &w.Owner) }, func() { want.OwnerStatus = keymanager.UserDisabled })
	user.Status = keymanager.UserDisabled
	step("user", func() error { return s.UpdateUser(ctx, &user) }, func() { want.UserStatus = keymanager.UserDisabled })
	step("revoked", func() error { return second(s.RevokeToken(ctx, token.ID, t0.Add(time.Second))) },
		func() { want.RevokedAt = t0.Add(time.Second) })
	step("a token outlives its user, who is not active", func() error { return s.DeleteUser(ctx, user.ID) }, func() {
		want.UserStatus, want.Grant.UserID, want.Grant.UserStore, want.Grant.User = "", "", "", ""
	})

	for what, d := range map[string]keymanager.Digest{"unknown": digest(), "zero": {}} {
		f, pos, err := s.TokenFacts(ctx, d, w.API.ID)
		if f != nil || err != nil || pos != want.Head {
			t.Errorf("%s digest: %+v, %v, %v", what, f, pos, err)
		}
	}
	f, _, err := s.TokenFacts(ctx, token.Digest, "no-such-api")
	if err != nil || f == nil || f.Grant.Subscription != nil {
		t.Errorf("unknown API: %+v, %v", f, err)
	}
}

func testAPIKeyFacts(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	k := newAPIKey(w.Application.ID, "ci")
	must(t, s.CreateAPIKey(ctx, &k))
	want := &store.Facts{
		Head: get(s.Head(ctx))(t), TokenID: k.ID, IssuedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt,
		ApplicationStatus: keymanager.ApplicationApproved, OwnerStatus: keymanager.UserActive, UserStatus: keymanager.UserActive,
		Grant: keymanager.Grant{
			Organization: w.Org.ID, KeyType: keymanager.Sandbox,
			Application: keymanager.GrantApplication{ID: w.Application.ID, Name: "Shop", Tier: "Silver", Attributes: w.Application.Attributes},
			Subscriber:  "PRIMARY/alice", User: "PRIMARY/alice", UserID: w.Owner.ID, UserStore: keymanager.PrimaryUserStore,
			UserType: keymanager.UserTypeApplication, Networks: k.Networks, Referers: k.Referers,
			Subscription: &keymanager.GrantSubscription{ID: w.Subscription.ID, State: keymanager.Unblocked, Tier: "Gold"},
		}}
	got, pos, err := s.APIKeyFacts(ctx, k.Digest, w.API.ID)
	must(t, err)
	wantSame(t, "facts", got, want)
	if pos != want.Head {
		t.Errorf("head %v, want %v", pos, want.Head)
	}
	must(t, s.RevokeAPIKey(ctx, k.ID, t0))
	got, _, err = s.APIKeyFacts(ctx, k.Digest, "no-such-api")
	must(t, err)
	want.Head, want.RevokedAt, want.Grant.Subscription = get(s.Head(ctx))(t), t0, nil
	wantSame(t, "revoked", got, want)
	if f, pos, err := s.APIKeyFacts(ctx, digest(), w.API.ID); f != nil || err != nil || pos != want.Head {
		t.Errorf("unknown digest: %+v, %v, %v", f, pos, err)
	}
	token := newToken(&w.Client, w.Owner.ID)
	must(t, s.CreateToken(ctx, &token))
	if f, _, err := s.APIKeyFacts(ctx, token.Digest, w.API.ID); f != nil || err != nil {
		t.Errorf("a token is no API key: %+v, %v", f, err)
	}
}
