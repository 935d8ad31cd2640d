package oauth_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
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

// The token endpoint's refusals. Each row says what is sent; none of them
// leaves anything behind.
func TestTokenRefusals(t *testing.T) {
	r := newRig(t)
	other := r.application("other", nil)
	basicOnly := r.application("basic-only", nil)
	r.change("ck-basic-only", func(c *keymanager.Client) { c.AuthMethod = keymanager.AuthMethodBasic })
	postOnly := r.application("post-only", nil)
	r.change("ck-post-only", func(c *keymanager.Client) { c.AuthMethod = keymanager.AuthMethodPost })
	noGrant := r.application("no-grant", nil)
	r.change("ck-no-grant", func(c *keymanager.Client) { c.GrantTypes = nil })
	otherGrant := r.application("other-grant", nil)
	r.change("ck-other-grant", func(c *keymanager.Client) { c.GrantTypes = []string{"authorization_code"} })
	rejected := r.application("rejected", func(a *keymanager.Application) { a.Status = keymanager.ApplicationRejected })
	created := r.application("created", func(a *keymanager.Application) { a.Status = keymanager.ApplicationCreated })
	r.ok(r.store.CreateUser(context.Background(), &keymanager.User{ID: "bob", Organization: "acme", Name: "bob",
		UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserDisabled}))
	orphan := r.application("orphan", func(a *keymanager.Application) { a.Owner = "bob" })
	expired := "canary-expired-secret"
	r.secret("ck-shop", expired, r.clock.Now())

	good := r.client
	auth := []string{good.basic()}
	form := func(c credentials) string {
		return ccBody + "&client_id=" + url.QueryEscape(c.id) + "&client_secret=" + url.QueryEscape(c.secret)
	}
	raw := func(s string) []string { return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(s))} }
	rows := []struct {
		name   string
		req    request
		status int
		error  string
	}{
		{"T1 GET", request{method: "GET", auth: auth, query: ccBody}, 405, "invalid_request"},
		{"T1 PUT", request{method: "PUT", auth: auth, body: ccBody}, 405, "invalid_request"},
		{"T1 HEAD", request{method: "HEAD", auth: auth}, 405, ""},
		{"T1 OPTIONS", request{method: "OPTIONS", auth: auth}, 405, "invalid_request"},
		{"T2 JSON", request{auth: auth, contentType: ptr("application/json"), body: `{"grant_type":"client_credentials"}`}, 400, "invalid_request"},
		{"T2 multipart", request{auth: auth, contentType: ptr("multipart/form-data; boundary=x"), body: "--x--"}, 400, "invalid_request"},
		{"T2 no content type", request{auth: auth, contentType: ptr(""), body: ccBody}, 400, "invalid_request"},
		{"T2 malformed content type", request{auth: auth, contentType: ptr("application/x-www-form-urlencoded;;="), body: ccBody}, 400, "invalid_request"},
		{"T3 client_secret in the URL", request{query: "client_id=" + good.id + "&client_secret=" + good.secret, body: ccBody}, 400, "invalid_request"},
		{"T3 grant_type in the URL", request{auth: auth, query: ccBody}, 400, "invalid_request"},
		{"T4 grant_type twice", request{auth: auth, body: ccBody + "&" + ccBody}, 400, "invalid_request"},
		{"T4 scope twice, one empty", request{auth: auth, body: ccBody + "&scope=&scope=pets:read"}, 400, "invalid_request"},
		{"T4 unknown parameter twice", request{auth: auth, body: ccBody + "&a=1&a=2"}, 400, "invalid_request"},
		{"T4 twice in two spellings", request{auth: auth, body: ccBody + "&sc%6Fpe=a&scope=b"}, 400, "invalid_request"},
		{"T5 same in URL and body", request{auth: auth, query: "scope=pets:read", body: ccBody + "&scope=pets:read"}, 400, "invalid_request"},
		{"T8 no grant_type", request{auth: auth, body: "scope=pets:read"}, 400, "invalid_request"},
		{"T8 empty grant_type", request{auth: auth, body: "grant_type="}, 400, "invalid_request"},
		{"T8 empty body", request{auth: auth}, 400, "invalid_request"},
		{"T9 unknown grant_type", request{auth: auth, body: "grant_type=urn:x:canary"}, 400, "unsupported_grant_type"},
		{"T9 grant_type in other case", request{auth: auth, body: "grant_type=Client_Credentials"}, 400, "unsupported_grant_type"},
		{"T30 password grant", request{auth: auth, body: "grant_type=password&username=a&password=canary"}, 400, "unsupported_grant_type"},
		{"T10 wrong secret, Basic", request{auth: []string{credentials{good.id, "canary"}.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T10 wrong secret, body", request{body: form(credentials{good.id, "canary"})}, 401, "invalid_client"},
		{"T10 another client's secret", request{auth: []string{credentials{good.id, other.secret}.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T11 unknown client", request{auth: []string{credentials{"nobody", "canary"}.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T12 no colon", request{auth: raw("canary"), body: ccBody}, 401, "invalid_client"},
		{"T12 bad base64", request{auth: []string{"Basic !!!"}, body: ccBody}, 401, "invalid_client"},
		{"T12 no padding", request{auth: []string{strings.TrimRight("Basic "+base64.StdEncoding.EncodeToString([]byte("a:bc")), "=")}, body: ccBody}, 401, "invalid_client"},
		{"T12 NUL", request{auth: raw("ck\x00:canary"), body: ccBody}, 401, "invalid_client"},
		{"T12 encoded NUL", request{auth: raw("ck%00:canary"), body: ccBody}, 401, "invalid_client"},
		{"T12 not UTF-8", request{auth: raw("\xff\xfe:canary"), body: ccBody}, 401, "invalid_client"},
		{"T12 bad percent", request{auth: raw(good.id + ":%zz"), body: ccBody}, 401, "invalid_client"},
		{"T12 empty", request{auth: []string{"Basic"}, body: ccBody}, 401, "invalid_client"},
		{"T12 two spaces", request{auth: []string{strings.Replace(good.basic(), " ", "  ", 1)}, body: ccBody}, 401, "invalid_client"},
		{"T12 20 KiB", request{auth: raw(strings.Repeat("x", 10<<10) + ":" + strings.Repeat("y", 10<<10)), body: ccBody}, 401, "invalid_client"},
		{"T12 long id in the body", request{body: form(credentials{strings.Repeat("x", 8<<10), "canary"})}, 401, "invalid_client"},
		{"another scheme", request{auth: []string{"Bearer canary"}, body: ccBody}, 401, "invalid_client"},
		{"joined by a comma", request{auth: []string{good.basic() + "," + good.basic()}, body: ccBody}, 401, "invalid_client"},
		{"two Authorization headers", request{auth: append(auth, auth...), body: ccBody}, 400, "invalid_request"},
		{"T13 Basic and client_secret", request{auth: auth, body: form(good)}, 400, "invalid_request"},
		{"T14 client_id of another client", request{auth: auth, body: ccBody + "&client_id=" + other.id}, 400, "invalid_request"},
		{"T16 registered for Basic, sends body", request{body: form(basicOnly)}, 401, "invalid_client"},
		{"T16 registered for body, sends Basic", request{auth: []string{postOnly.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T17 client_id alone", request{body: ccBody + "&client_id=" + good.id}, 401, "invalid_client"},
		{"T17 empty secret, body", request{body: form(credentials{good.id, ""})}, 401, "invalid_client"},
		{"T17 empty secret, Basic", request{auth: raw(good.id + ":"), body: ccBody}, 401, "invalid_client"},
		{"no credentials", request{body: ccBody}, 401, "invalid_client"},
		{"empty id", request{auth: raw(":" + good.secret), body: ccBody}, 401, "invalid_client"},
		{"T19 no grant types", request{auth: []string{noGrant.basic()}, body: ccBody}, 400, "unauthorized_client"},
		{"T19 another grant type", request{auth: []string{otherGrant.basic()}, body: ccBody}, 400, "unauthorized_client"},
		{"T20 nothing left of the scopes", request{auth: auth, body: ccBody + "&scope=vault:open+canary"}, 400, "invalid_scope"},
		{"T20 management scope", request{auth: auth, body: ccBody + "&scope=tollgate:admin"}, 400, "invalid_scope"},
		{"T22 quote", request{auth: auth, body: ccBody + "&scope=pets:read+%22canary"}, 400, "invalid_scope"},
		{"T22 backslash", request{auth: auth, body: ccBody + "&scope=pets:read+a%5C"}, 400, "invalid_scope"},
		{"T22 TAB", request{auth: auth, body: ccBody + "&scope=pets:read%09pets:write"}, 400, "invalid_scope"},
		{"T22 line break", request{auth: auth, body: ccBody + "&scope=pets:read%0d%0acanary"}, 400, "invalid_scope"},
		{"T22 not ASCII", request{auth: auth, body: ccBody + "&scope=pets:read+%C3%BC"}, 400, "invalid_scope"},
		{"T22 not UTF-8", request{auth: auth, body: ccBody + "&scope=%ff"}, 400, "invalid_scope"},
		{"T22 spaces alone", request{auth: auth, body: ccBody + "&scope=++"}, 400, "invalid_scope"},
		{"T25 application rejected", request{auth: []string{rejected.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T25 application not approved", request{auth: []string{created.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T25 owner disabled", request{auth: []string{orphan.basic()}, body: ccBody}, 401, "invalid_client"},
		{"T26 64 KiB of scope", request{auth: auth, body: ccBody + "&scope=" + strings.Repeat("a", 64<<10)}, 413, "invalid_request"},
		{"T26 10,000 scopes", request{auth: auth, body: ccBody + "&scope=" + strings.Repeat("scope+", 10_000)}, 413, "invalid_request"},
		{"T26 long scope", request{auth: auth, body: ccBody + "&scope=" + strings.Repeat("a", 10_000)}, 400, "invalid_scope"},
		{"T26 many scopes", request{auth: auth, body: ccBody + "&scope=" + strings.Repeat("a+", 5_000)}, 400, "invalid_scope"},
		{"T26 1 MiB", request{auth: auth, body: ccBody + "&x=" + strings.Repeat("a", 1<<20)}, 413, "invalid_request"},
		{"T27 1,000 parameters", request{auth: auth, body: ccBody + manyParameters(1000)}, 400, "invalid_request"},
		{"bad percent in a value", request{auth: auth, body: ccBody + "&scope=%zz"}, 400, "invalid_request"},
		{"bad percent in a name", request{auth: auth, body: ccBody + "&%zz=1"}, 400, "invalid_request"},
		{"T29 expired secret", request{auth: []string{credentials{good.id, expired}.basic()}, body: ccBody}, 401, "invalid_client"},
		{"no such endpoint", request{path: "/oauth2/canary", auth: auth, body: ccBody}, 404, "invalid_request"},
		{"slash at the end", request{path: "/oauth2/token/", auth: auth, body: ccBody}, 404, "invalid_request"},
	}
	head := r.head()
	for i, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			r.t = t
			tt.req.from = "192.0.2." + strconv.Itoa(i+1) // each row is heard
			got := r.do(tt.req)
			if got.status != tt.status || got.text("error") != tt.error {
				t.Errorf("%d %q, want %d %q", got.status, got.text("error"), tt.status, tt.error)
			}
			if tt.status == http.StatusMethodNotAllowed && got.header.Get("Allow") != "POST" {
				t.Errorf("Allow is %q", got.header.Get("Allow"))
			}
			if tt.status == http.StatusUnauthorized && !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
			}
		})
	}
	r.t = t
	if n := r.store.count("CreateToken"); n != 0 || r.head() != head {
		t.Errorf("refusals left something behind: %d tokens, log at %s, was at %s", n, r.head(), head)
	}
}

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

// Everything that is wrong with a client looks the same.
func TestRefusedClientsLookAlike(t *testing.T) {
	r := newRig(t)
	rejected := r.application("rejected", func(a *keymanager.Application) { a.Status = keymanager.ApplicationRejected })
	var want reply
	for i, c := range []credentials{{r.client.id, "wrong"}, {"nobody", "wrong"}, rejected, {rejected.id, "wrong"}} {
		got := r.do(request{auth: []string{c.basic()}, body: ccBody, from: "192.0.2.1"})
		got.header.Del("Date")
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(reply{})); diff != "" {
			t.Errorf("client %d (-wrong secret +this):\n%s", i, diff)
		}
	}
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
		{"built in: its own", builtIn, "tollgate:admin tollgate:introspect tollgate:publish tollgate:subscribe"},
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
