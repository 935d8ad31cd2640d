package validator_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/validator"
)

// The validator over a real store: what is written decides, at once.
func TestOverSQLite(t *testing.T) {
	ctx := context.Background()
	r := newRig(t) // for its keys
	db, err := sqlstore.OpenSQLite(ctx, filepath.Join(t.TempDir(), "tollgate.db"), sqlstore.Options{Now: func() time.Time { return now }})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(err)
	t.Cleanup(func() { ok(db.Close()) })
	clock := now
	v, err := validator.New(validator.Options{Store: db, Tags: r.tags, Peppers: r.peppers, Now: func() time.Time { return clock }})
	ok(err)

	ok(db.CreateOrganization(ctx, &keymanager.Organization{ID: "acme"}))
	_, tiers, err := db.Tiers(ctx, "acme", store.Page{})
	ok(err)
	if tiers == 0 {
		for _, tier := range keymanager.DefaultTiers("acme") {
			ok(db.CreateTier(ctx, &tier))
		}
	}
	ok(db.CreateUser(ctx, &keymanager.User{ID: "u", Organization: "acme", Name: "alice",
		UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}))
	app := &keymanager.Application{ID: "app", Organization: "acme", Name: "shop", Owner: "u", Tier: "Gold",
		TokenType: keymanager.OpaqueToken, Status: keymanager.ApplicationApproved}
	ok(db.CreateApplication(ctx, app))
	ok(db.CreateClient(ctx, &keymanager.Client{ConsumerKey: "ck", ApplicationID: "app", KeyType: keymanager.Sandbox}))
	ok(db.CreateAPI(ctx, &keymanager.API{ID: "pets", Organization: "acme", Name: "pets", Context: "/pets", Version: "1",
		Protocol: keymanager.HTTP1, Production: []string{"http://127.0.0.1:1"}, State: keymanager.StatePublished, Tiers: []keymanager.TierName{"Gold"},
		Resources: []keymanager.Resource{{Method: "GET", Path: "/*", AuthType: keymanager.AuthAny, Tier: keymanager.Unlimited}}}))
	ok(db.CreateSubscription(ctx, &keymanager.Subscription{ID: "s", Organization: "acme", Name: "s", ApplicationID: "app",
		APIID: "pets", Tier: "Gold", State: keymanager.Unblocked}))

	value, err := r.minter.AccessToken()
	ok(err)
	issued := &keymanager.Token{ID: keymanager.TokenID{1}, Digest: r.peppers.Digest(value), ConsumerKey: "ck", ApplicationID: "app",
		KeyType: keymanager.Sandbox, User: "u", UserType: keymanager.UserTypeApplication, Scopes: []keymanager.Scope{"read"},
		IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
	ok(db.CreateToken(ctx, issued))
	key, err := r.minter.APIKey()
	ok(err)
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	ok(db.CreateAPIKey(ctx, &keymanager.APIKey{ID: keymanager.TokenID{2}, ApplicationID: "app", Name: "k", KeyType: keymanager.Production,
		Digest: r.old.Digest(key), Networks: networks, CreatedAt: now}))

	validate := func(kind keymanager.CredentialKind, value string, api keymanager.APIID) *keymanager.Verdict {
		t.Helper()
		verdict, err := v.Validate(ctx, keymanager.Query{Credential: keymanager.Credential{Kind: kind, Value: value}, API: api})
		ok(err)
		return verdict
	}
	head, err := db.Head(ctx)
	ok(err)
	grant := keymanager.Grant{Organization: "acme", Application: keymanager.GrantApplication{ID: "app", Name: "shop", Tier: "Gold"},
		ConsumerKey: "ck", KeyType: keymanager.Sandbox, Subscriber: "PRIMARY/alice", User: "PRIMARY/alice", UserID: "u",
		UserStore: "PRIMARY", UserType: keymanager.UserTypeApplication, Scopes: []keymanager.Scope{"read"},
		Subscription: &keymanager.GrantSubscription{ID: "s", State: keymanager.Unblocked, Tier: "Gold"}}
	want := &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, TokenID: issued.ID,
		IssuedAt: now, ExpiresAt: now.Add(time.Hour), Head: head, Grant: &grant}
	if diff := cmp.Diff(want, validate(keymanager.AccessToken, value, "pets")); diff != "" {
		t.Errorf("access token (-want +got):\n%s", diff)
	}
	if got := validate(keymanager.AccessToken, value, "unheard-of"); got.Reason != keymanager.ReasonActive || got.Grant.Subscription != nil {
		t.Errorf("another API: %+v", got)
	}
	if got := validate(keymanager.APIKeyCredential, key, "pets"); got.Reason != keymanager.ReasonActive || got.TokenID != (keymanager.TokenID{2}) ||
		got.Grant.KeyType != keymanager.Production || !got.ExpiresAt.IsZero() || cmp.Diff(networks, got.Grant.Networks, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) != "" {
		t.Errorf("API key under the previous pepper: %+v, %+v", got, got.Grant)
	}

	revoked, err := db.RevokeToken(ctx, issued.ID, now)
	ok(err)
	if got := validate(keymanager.AccessToken, value, "pets"); !revoked || got.Reason != keymanager.ReasonRevoked || got.Head.Seq != head.Seq+1 {
		t.Errorf("revoked: %+v", got)
	}
	ok(db.RevokeAPIKey(ctx, keymanager.TokenID{2}, now))
	if got := validate(keymanager.APIKeyCredential, key, "pets"); got.Reason != keymanager.ReasonRevoked {
		t.Errorf("API key revoked: %+v", got)
	}
	ok(db.DeleteApplication(ctx, "app"))
	for kind, value := range map[keymanager.CredentialKind]string{keymanager.AccessToken: value, keymanager.APIKeyCredential: key} {
		if got := validate(kind, value, "pets"); got.Reason != keymanager.ReasonNoSuchCredential || got.Grant != nil {
			t.Errorf("application deleted, %s: %+v", kindName(kind), got)
		}
	}
}
