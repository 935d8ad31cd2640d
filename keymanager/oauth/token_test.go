package oauth_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/token"
)

func ptr[T any](v T) *T { return &v }

// change changes a client.
func (r *rig) change(k keymanager.ConsumerKey, change func(*keymanager.Client)) {
	r.t.Helper()
	facts, err := r.store.Store.ClientFacts(context.Background(), k)
	r.ok(err)
	change(&facts.Client)
	r.ok(r.store.UpdateClient(context.Background(), &facts.Client))
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p" + strconv.Itoa(i) + "=1")
	}
	return b.String()
}

func TestTokenIssued(t *testing.T) {
	const all = "orders:read pets:read pets:write"
	for _, tt := range []struct {
		name  string
		body  string // after grant_type
		scope string // in the answer
	}{
		{"T6 unknown parameter", "&foo=1", all},
		{"T7 empty scope", "&scope=", all},
		{"no scope: those of all APIs", "", all},
		{"no scope: never the management plane's", "&resource=x", all},
		{"T20 what is not allowed is left out", "&scope=pets:read+vault:open+unheard-of", "pets:read"},
		{"T21 other order, repeated, many spaces", "&scope=++pets:write++orders:read+pets:write+", "orders:read pets:write"},
		{"management scope when asked for", "&scope=tollgate:introspect+pets:read", "pets:read tollgate:introspect"},
		{"management scope that was not given", "&scope=tollgate:introspect+tollgate:admin", "tollgate:introspect"},
		{"T14 client_id of the same client", "&client_id=ck-shop2", all},
		{"empty client_secret is none", "&client_secret=", all},
		{"empty pairs", "&&&", all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			c := r.application("shop2", func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{keymanager.ScopeIntrospect} })
			r.subscribe("shop2", "pets")
			r.subscribe("shop2", "orders")
			head := r.head()
			got := r.do(request{auth: []string{c.basic()}, body: ccBody + tt.body})
			if got.status != http.StatusOK {
				t.Fatalf("%d %s", got.status, got.body)
			}
			value := got.text("access_token")
			if got.text("token_type") != "Bearer" || got.text("scope") != tt.scope || got.member("expires_in") != 3600.0 ||
				got.member("refresh_token") != nil || !r.tags.Check(keymanager.AccessToken, value) {
				t.Errorf("answer %s", got.body)
			}
			stored := r.stored(value)
			if stored == nil {
				t.Fatal("the token is not stored")
			}
			var scopes []keymanager.Scope
			for s := range strings.FieldsSeq(tt.scope) {
				scopes = append(scopes, keymanager.Scope(s))
			}
			want := &keymanager.Token{ID: stored.ID, Digest: r.peppers.Digest(value), ConsumerKey: "ck-shop2", ApplicationID: "shop2",
				KeyType: keymanager.Production, User: "alice-acme", UserType: keymanager.UserTypeApplication, Scopes: scopes,
				IssuedAt: r.clock.Now(), ExpiresAt: r.clock.Now().Add(time.Hour)}
			if diff := cmp.Diff(want, stored); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if stored.ID.IsZero() {
				t.Error("the token has no id")
			}
			if r.head() != head {
				t.Error("issuing a token wrote an event")
			}
			if reads, writes := r.store.count("ClientFacts"), r.store.count("CreateToken"); reads != 1 || writes != 1 {
				t.Errorf("%d reads and %d writes, want one each", reads, writes)
			}
		})
	}
}

// Without a scope parameter: what an application gets depends on what it has.
func TestDefaultScopes(t *testing.T) {
	r := newRig(t)
	builtIn := r.application("admin", func(a *keymanager.Application) { a.BuiltIn = true; a.Scopes = keymanager.ManagementScopes() })
	operator := r.application("operator", func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{keymanager.ScopeAdmin} })
	for _, tt := range []struct {
		name   string
		client credentials
		want   any
	}{
		{"built in: its own", builtIn, "tollgate:admin tollgate:introspect tollgate:publish tollgate:subscribe tollgate:validate"},
		{"given management scopes, no API: none", operator, nil},
	} {
		got := r.do(request{auth: []string{tt.client.basic()}, body: ccBody})
		if got.status != http.StatusOK || got.member("scope") != tt.want {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
	}
	if got := r.issue(operator, "tollgate:admin"); r.stored(got).Scopes[0] != keymanager.ScopeAdmin {
		t.Error("a scope that was given and asked for is not granted")
	}
}

func TestClientAuthenticates(t *testing.T) {
	r := newRig(t)
	odd := "100% +a:b=ü&"
	r.secret("ck-shop", odd, time.Time{})
	r.application("odd", nil)
	r.ok(r.store.DeleteClient(context.Background(), "ck-odd"))
	strange := r.newClient("odd", func(c *keymanager.Client) { c.ConsumerKey = "ck:%+ ü" })
	second := "second-secret"
	r.secret("ck-shop", second, r.clock.Now().Add(time.Hour))
	form := func(c credentials) string {
		return ccBody + "&client_id=" + url.QueryEscape(c.id) + "&client_secret=" + url.QueryEscape(c.secret)
	}
	lower := strings.Replace(r.client.basic(), "Basic", "bAsIc", 1)
	for name, req := range map[string]request{
		"Basic":                      {auth: []string{r.client.basic()}, body: ccBody},
		"Basic, scheme in any case":  {auth: []string{lower}, body: ccBody},
		"body":                       {body: form(r.client)},
		"T15 odd secret, Basic":      {auth: []string{credentials{"ck-shop", odd}.basic()}, body: ccBody},
		"T15 odd secret, body":       {body: form(credentials{"ck-shop", odd})},
		"T15 odd id, Basic":          {auth: []string{strange.basic()}, body: ccBody},
		"T29 second live secret":     {auth: []string{credentials{"ck-shop", second}.basic()}, body: ccBody},
		"content type with charset":  {auth: []string{r.client.basic()}, contentType: ptr("application/x-www-form-urlencoded; charset=UTF-8"), body: ccBody},
		"content type in upper case": {auth: []string{r.client.basic()}, contentType: ptr("Application/X-WWW-Form-URLencoded"), body: ccBody},
	} {
		if got := r.do(req); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	r.clock.advance(time.Hour)
	if got := r.do(request{auth: []string{credentials{"ck-shop", second}.basic()}, body: ccBody}); got.status != http.StatusUnauthorized {
		t.Errorf("a secret at its expiry: %d", got.status)
	}
	if got := r.do(request{auth: []string{r.client.basic()}, body: ccBody}); got.status != http.StatusOK {
		t.Errorf("the first secret after the second expired: %d", got.status)
	}
}

func TestSecretsOfThePreviousPepper(t *testing.T) {
	file, err := token.NewPeppers(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := token.ParsePeppers(file)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := token.RotatePeppers(file, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	peppers, err := token.ParsePeppers(rotated)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *oauth.Options) { o.Peppers = peppers })
	r.peppers = old
	r.secret("ck-shop", "old", time.Time{})
	r.peppers = peppers
	value := r.issue(credentials{"ck-shop", "old"}, "")
	if r.stored(value) == nil {
		t.Error("the token is not stored under the current pepper")
	}
}

// What an application has at the moment of asking counts, not what it had.
func TestScopesFollowSubscriptions(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	r.ok(r.store.DeleteSubscription(ctx, "shop-orders"))
	if got := r.do(request{auth: []string{r.client.basic()}, body: ccBody + "&scope=orders:read"}); got.text("error") != "invalid_scope" {
		t.Errorf("scope of a subscription that ended: %d %s", got.status, got.body)
	}
	sub, err := r.store.Subscription(ctx, "shop-pets")
	r.ok(err)
	for state, want := range map[keymanager.SubscriptionState]any{
		keymanager.Unblocked: "pets:read pets:write", keymanager.Blocked: "pets:read pets:write",
		keymanager.ProdOnlyBlocked: "pets:read pets:write", keymanager.TierUpdatePending: "pets:read pets:write",
		keymanager.OnHold: nil, keymanager.Rejected: nil,
	} {
		sub.State, sub.Revision = state, 0
		if state == keymanager.TierUpdatePending {
			sub.PendingTier = "Silver"
		}
		r.ok(r.store.UpdateSubscription(ctx, sub))
		if got := r.do(request{auth: []string{r.client.basic()}, body: ccBody}); got.member("scope") != want {
			t.Errorf("subscription %s: scope %v, want %v", state, got.member("scope"), want)
		}
	}
}

func TestTokenLifetimes(t *testing.T) {
	for _, tt := range []struct {
		name           string
		server, client time.Duration
		want           time.Duration
	}{
		{"default", 0, 0, time.Hour},
		{"of the key manager", 10 * time.Minute, 0, 10 * time.Minute},
		{"of the client", 10 * time.Minute, 90 * time.Second, 90 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(o *oauth.Options) { o.TokenLifetime = tt.server })
			r.change("ck-shop", func(c *keymanager.Client) { c.TokenLifetime = tt.client })
			got := r.do(request{auth: []string{r.client.basic()}, body: ccBody})
			stored := r.stored(got.text("access_token"))
			if got.member("expires_in") != tt.want.Seconds() || stored.ExpiresAt.Sub(r.clock.Now()).Round(time.Second) != tt.want {
				t.Errorf("expires_in %v, stored %s, want %s", got.member("expires_in"), stored.ExpiresAt.Sub(r.clock.Now()), tt.want)
			}
		})
	}
}

func TestTokensAreDistinct(t *testing.T) {
	r := newRig(t)
	seen := map[string]bool{}
	ids := map[keymanager.TokenID]bool{}
	for range 200 {
		value := r.issue(r.client, "")
		id := r.stored(value).ID
		if seen[value] || ids[id] {
			t.Fatal("a token or an id twice")
		}
		seen[value], ids[id] = true, true
	}
}

// Many clients at once, each with its own tokens.
func TestConcurrentRequests(t *testing.T) {
	r := newRig(t)
	var all []credentials
	for i := range 4 {
		all = append(all, r.application("app"+strconv.Itoa(i), nil))
	}
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			for range 10 {
				issued, err := r.try(request{auth: []string{c.basic()}, body: ccBody})
				if err != nil || issued.status != http.StatusOK {
					t.Errorf("token: %d, %v", issued.status, err)
					return
				}
				body := "token=" + issued.text("access_token")
				for _, step := range []struct {
					path string
					want string
				}{{oauth.PathIntrospect, c.id}, {oauth.PathRevoke, ""}, {oauth.PathIntrospect, ""}} {
					got, err := r.try(request{path: step.path, auth: []string{c.basic()}, body: body})
					if err != nil || got.status != http.StatusOK || got.text("client_id") != step.want {
						t.Errorf("%s: %d %s, %v", step.path, got.status, got.body, err)
					}
				}
			}
		})
	}
	wg.Wait()
}
