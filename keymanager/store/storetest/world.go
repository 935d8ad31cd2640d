package storetest

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// world is one of everything: an organization with tiers, a user, an API, his
// application with a client and a secret, and a subscription.
type world struct {
	Org          keymanager.Organization
	Owner        keymanager.User
	API          keymanager.API
	Application  keymanager.Application
	Client       keymanager.Client
	Secret       keymanager.ClientSecret
	Subscription keymanager.Subscription
}

// t0 is a time as precise as a store keeps it.
var t0 = time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)

var numbers atomic.Uint32

// id returns a fresh identifier.
func id(prefix string) string { return fmt.Sprintf("%s-%04d", prefix, numbers.Add(1)) }

func tokenID() keymanager.TokenID {
	var t keymanager.TokenID
	copy(t[:], id("token"))
	return t
}

func digest() keymanager.Digest {
	d := keymanager.Digest{PepperID: 7}
	copy(d.Sum[:], id("digest")+"\x00\xff")
	return d
}

func create(t *testing.T, s store.Store) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{Org: keymanager.Organization{ID: keymanager.OrganizationID(id("org")), DisplayName: "Example"}}
	must(t, s.CreateOrganization(ctx, &w.Org))
	for _, tier := range keymanager.DefaultTiers(w.Org.ID) {
		must(t, s.CreateTier(ctx, &tier))
	}
	w.Owner = newUser(w.Org.ID, "alice")
	must(t, s.CreateUser(ctx, &w.Owner))
	w.API = newAPI(w.Org.ID, "Pets")
	must(t, s.CreateAPI(ctx, &w.API))
	w.Application = newApplication(&w.Owner, "Shop")
	must(t, s.CreateApplication(ctx, &w.Application))
	w.Client = newClient(w.Application.ID, keymanager.Production)
	must(t, s.CreateClient(ctx, &w.Client))
	w.Secret = newSecret(w.Client.ConsumerKey)
	must(t, s.CreateSecret(ctx, &w.Secret))
	w.Subscription = newSubscription(&w.Application, &w.API)
	must(t, s.CreateSubscription(ctx, &w.Subscription))
	return w
}

func newUser(org keymanager.OrganizationID, name string) keymanager.User {
	return keymanager.User{ID: keymanager.UserID(id("user")), Organization: org, Name: name, UserStore: keymanager.PrimaryUserStore,
		Email: name + "@example.org", Status: keymanager.UserActive}
}

// newAPI returns an API with a value in every field, at a context of its own.
func newAPI(org keymanager.OrganizationID, name string) keymanager.API {
	n := id("api")
	stale := 2 * time.Minute
	return keymanager.API{
		ID: keymanager.APIID(n), Organization: org, Name: name, Context: "/" + n, Version: "1.0.0",
		Protocol: keymanager.HTTP2, Timeout: 1500 * time.Millisecond,
		Production: []string{"https://a.example/base", "https://b.example/base"}, Sandbox: []string{"https://s.example/base"},
		Resources: []keymanager.Resource{
			{Method: "GET", Path: "/items/{id}", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"pets:read", "pets:all"}, Tier: "Gold"},
			{Method: "*", Path: "/*", AuthType: keymanager.AuthNone},
		},
		Security: []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeAPIKey},
		Tiers:    []keymanager.TierName{"Gold", "Bronze"},
		CORS: &keymanager.CORS{AllowOrigins: []string{"https://app.example"}, AllowMethods: []string{"GET"},
			AllowHeaders: []string{"x-a"}, ExposeHeaders: []string{"x-b"}, MaxAge: time.Hour, AllowCredentials: true},
		State: keymanager.StatePublished, Labels: []string{"eu"}, Cache: keymanager.CacheOff,
		MaxDuration: 2 * time.Hour, IdleTimeout: 90 * time.Second, MaxStale: &stale,
		Backend: keymanager.Backend{
			Retry: &keymanager.Retry{Attempts: 2, On: []keymanager.RetryCondition{keymanager.RetryConnectFailure, keymanager.Retry503},
				AnyMethod: true, PerTryTimeout: 700 * time.Millisecond, BackOff: 50 * time.Millisecond},
			HealthCheck: &keymanager.HealthCheck{Path: "/healthz", Interval: 5 * time.Second, Timeout: 500 * time.Millisecond, Unhealthy: 4, Healthy: 1},
			Outliers:    &keymanager.OutlierDetection{Consecutive5xx: 7, Interval: 3 * time.Second, EjectionTime: 20 * time.Second, MaxEjectionPercent: 30},
			Limits:      &keymanager.BackendLimits{Connections: 10, Pending: 20, Requests: 30, Retries: 4},
			TLS:         &keymanager.BackendTLS{CA: "partners", ClientCertificate: "gateway", ServerName: "a.example"},
			SandboxTLS:  &keymanager.BackendTLS{CA: "ours", ClientCertificate: "sandbox", ServerName: "s.example"},
		},
	}
}

func newApplication(owner *keymanager.User, name string) keymanager.Application {
	return keymanager.Application{ID: keymanager.ApplicationID(id("app")), Organization: owner.Organization, Name: name, Owner: owner.ID,
		Tier: "Silver", TokenType: keymanager.OpaqueToken, Attributes: map[string]string{"team": "é"},
		Status: keymanager.ApplicationApproved, Scopes: []keymanager.Scope{"tollgate:publish", "tollgate:subscribe"}}
}

func newClient(app keymanager.ApplicationID, k keymanager.KeyType) keymanager.Client {
	return keymanager.Client{ConsumerKey: keymanager.ConsumerKey(id("key")), ApplicationID: app, KeyType: k,
		GrantTypes: []string{keymanager.GrantClientCredentials}, AuthMethod: keymanager.AuthMethodBasic,
		TokenLifetime: 90 * time.Minute, CreatedAt: t0}
}

func newSecret(k keymanager.ConsumerKey) keymanager.ClientSecret {
	return keymanager.ClientSecret{ID: keymanager.SecretID(id("secret")), ConsumerKey: k, Digest: digest(), Last4: "wxyz",
		CreatedAt: t0, ExpiresAt: t0.Add(time.Hour)}
}

func newSubscription(app *keymanager.Application, api *keymanager.API) keymanager.Subscription {
	n := id("sub")
	return keymanager.Subscription{ID: keymanager.SubscriptionID(n), Organization: app.Organization, Name: n, ApplicationID: app.ID,
		APIID: api.ID, Tier: "Gold", State: keymanager.Unblocked}
}

func newAPIKey(app keymanager.ApplicationID, name string) keymanager.APIKey {
	return keymanager.APIKey{ID: tokenID(), ApplicationID: app, Name: name, KeyType: keymanager.Sandbox, Digest: digest(), Last4: "abcd",
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		Referers: []string{"https://example.org/*"}, CreatedAt: t0, ExpiresAt: t0.Add(24 * time.Hour)}
}

func newToken(c *keymanager.Client, user keymanager.UserID) keymanager.Token {
	return keymanager.Token{ID: tokenID(), Digest: digest(), ConsumerKey: c.ConsumerKey, ApplicationID: c.ApplicationID, KeyType: c.KeyType,
		User: user, UserType: keymanager.UserTypeApplication, Scopes: []keymanager.Scope{"pets:read"}, IssuedAt: t0, ExpiresAt: t0.Add(time.Hour)}
}
