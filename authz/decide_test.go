package authz

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// seen is what Envoy makes of an answer.
type seen struct {
	status  int
	code    string
	reason  string
	isError bool
}

func see(t testing.TB, m *authv3.CheckResponse) seen {
	t.Helper()
	reason := m.GetDynamicMetadata().GetFields()[envoy.MetaReason].GetStringValue()
	switch m.GetHttpResponse().(type) {
	case *authv3.CheckResponse_OkResponse:
		if codes.Code(m.GetStatus().GetCode()) != codes.OK || m.GetDynamicMetadata().GetFields()[envoy.MetaReason] != nil {
			t.Errorf("an OK with the status %v or a reason: %v", m.GetStatus(), m.GetDynamicMetadata())
		}
		return seen{status: 200}
	case *authv3.CheckResponse_DeniedResponse:
		d := m.GetDeniedResponse()
		if m.GetStatus().GetCode() == 0 || reason == "" {
			t.Errorf("a denial with the status %v and the reason %q", m.GetStatus(), reason)
		}
		return seen{int(d.GetStatus().GetCode()), bodyOf(t, d.GetBody())["code"], reason, false}
	case *authv3.CheckResponse_ErrorResponse:
		d := m.GetErrorResponse()
		if m.GetStatus().GetCode() == 0 || reason == "" {
			t.Errorf("an error with the status %v and the reason %q", m.GetStatus(), reason)
		}
		return seen{int(d.GetStatus().GetCode()), bodyOf(t, d.GetBody())["code"], reason, true}
	default:
		t.Fatalf("no answer: %v", m)
		return seen{}
	}
}

var withToken = []string{"authorization", "Bearer " + goodToken}
var withKey = []string{"apikey", goodKey}

func TestDecisions(t *testing.T) {
	type verdict = keymanager.Verdict
	grant := func(f func(*keymanager.Grant)) func(*verdict) { return func(v *verdict) { f(v.Grant) } }
	state := func(s keymanager.SubscriptionState) func(*verdict) {
		return grant(func(g *keymanager.Grant) { g.Subscription.State = s })
	}
	reason := func(r keymanager.Reason) func(*verdict) { return func(v *verdict) { v.Reason = r } }
	network := grant(func(g *keymanager.Grant) {
		g.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	})
	referer := grant(func(g *keymanager.Grant) { g.Referers = []string{"https://app.example.com/*"} })
	from := func(address string, headers ...string) []string {
		return append([]string{"apikey", goodKey, "x-envoy-external-address", address}, headers...)
	}
	for _, tt := range []struct {
		name   string
		api    func(*keymanager.API)
		grant  func(*verdict)
		method string
		path   string // below the base path; "" = /items
		with   []string
		want   string // status, code and reason
	}{
		{name: "access token", with: withToken, want: "200"},
		{name: "API key", with: withKey, want: "200"},
		{name: "scheme in lower case", with: []string{"authorization", "bearer " + goodToken}, want: "200"},
		{name: "scheme in upper case", with: []string{"authorization", "BEARER " + goodToken}, want: "200"},
		{name: "query is no part of the path", path: "/items?a=%2F/../;&b=..", with: withToken, want: "200"},

		// Methods and paths.
		{name: "TRACE", method: "TRACE", with: withToken, want: "403 900906 method_refused"},
		{name: "CONNECT", method: "CONNECT", with: withToken, want: "403 900906 method_refused"},
		{name: "PROPFIND", method: "PROPFIND", with: withToken, want: "403 900906 method_refused"},
		{name: "lower-case method", method: "get", with: withToken, want: "403 900906 method_refused"},
		{name: "star as a method", method: "*", with: withToken, want: "403 900906 method_refused"},
		{name: "method not offered", method: "PUT", with: withToken, want: "403 900906 no_resource"},
		{name: "path not offered", path: "/nothing", with: withToken, want: "403 900906 no_resource"},
		{name: "final slash", path: "/items/", with: withToken, want: "403 900906 no_resource"},
		{name: "parameter of a segment", path: "/items;a=b", with: withToken, want: "403 900906 path_refused"},
		{name: "encoded slash", path: "/items%2f7", with: withToken, want: "403 900906 path_refused"},
		{name: "doubly encoded slash", path: "/items%252F7", with: withToken, want: "403 900906 path_refused"},
		{name: "not UTF-8", path: "/items/%C0%AF", with: withToken, want: "403 900906 path_refused"},
		{name: "not offered, without credential", path: "/nothing", want: "403 900906 no_resource"},

		// Credentials.
		{name: "no credential", want: "401 900902 missing_credential"},
		{name: "empty authorization", with: []string{"authorization", ""}, want: "401 900902 missing_credential"},
		{name: "another scheme", with: []string{"authorization", "Basic dXNlcjpwYXNz"}, want: "401 900902 missing_credential"},
		{name: "another scheme that begins so", with: []string{"authorization", "BearerX " + goodToken}, want: "401 900902 missing_credential"},
		{name: "another scheme and a key", with: []string{"authorization", "Basic dXNlcjpwYXNz", "apikey", goodKey}, want: "200"},
		{name: "scheme alone", with: []string{"authorization", "Bearer"}, want: "401 900901 malformed_credential"},
		{name: "scheme and space", with: []string{"authorization", "Bearer "}, want: "401 900901 malformed_credential"},
		{name: "two spaces", with: []string{"authorization", "Bearer  " + goodToken}, want: "401 900901 malformed_credential"},
		{name: "tab", with: []string{"authorization", "Bearer\t" + goodToken}, want: "401 900901 malformed_credential"},
		{name: "final blank", with: []string{"authorization", "Bearer " + goodToken + " "}, want: "401 900901 malformed_credential"},
		{name: "NUL", with: []string{"authorization", "Bearer " + goodToken + "\x00"}, want: "401 900901 malformed_credential"},
		{name: "not ASCII", with: []string{"authorization", "Bearer " + goodToken + "\xff"}, want: "401 900901 malformed_credential"},
		{name: "joined headers", with: []string{"authorization", "Bearer " + goodToken + ",Bearer " + goodToken}, want: "401 900901 several_credentials"},
		{name: "joined with another scheme", with: []string{"authorization", "Basic x,Bearer " + goodToken}, want: "401 900901 several_credentials"},
		{name: "two authorization headers", with: append(withToken, withToken...), want: "401 900901 several_credentials"},
		{name: "two apikey headers", with: append(withKey, withKey...), want: "401 900901 several_credentials"},
		{name: "two apikey headers, one empty", with: append(withKey, "apikey", ""), want: "401 900901 several_credentials"},
		{name: "empty apikey", with: []string{"apikey", ""}, want: "401 900902 missing_credential"},
		{name: "token and key", with: append(withToken, withKey...), want: "401 900901 several_credentials"},
		{name: "random token", with: []string{"authorization", "Bearer random"}, want: "401 900901 not_ours"},
		{name: "huge token", with: []string{"authorization", "Bearer " + strings.Repeat("x", 64<<10)}, want: "401 900901 not_ours"},
		{name: "refresh token", with: []string{"authorization", "Bearer tgrt_good"}, want: "401 900901 not_ours"},
		{name: "client secret", with: []string{"apikey", "tgcs_good"}, want: "401 900901 not_ours"},
		{name: "key as a bearer token", with: []string{"authorization", "Bearer " + goodKey}, want: "401 900901 wrong_place"},
		{name: "token as a key", with: []string{"apikey", goodToken}, want: "401 900901 wrong_place"},
		{name: "key in the query, not taken there", path: "/items?apikey=" + goodKey, want: "401 900902 missing_credential"},
		{name: "token in the query", path: "/items?access_token=" + goodToken, want: "401 900902 missing_credential"},
		{name: "unknown token", with: []string{"authorization", "Bearer tgat_good_but_unknown"}, want: "401 900901 unknown_credential"},

		{name: "key where only tokens are taken", api: func(a *keymanager.API) { a.Security = []keymanager.SecurityScheme{keymanager.SchemeOAuth2} }, with: withKey, want: "401 900902 missing_credential"},
		{name: "token and key where only tokens are taken", api: func(a *keymanager.API) { a.Security = []keymanager.SecurityScheme{keymanager.SchemeOAuth2} }, with: append(withToken, withKey...), want: "200"},
		{name: "token where only keys are taken", api: func(a *keymanager.API) { a.Security = []keymanager.SecurityScheme{keymanager.SchemeAPIKey} }, with: withToken, want: "401 900902 missing_credential"},
		{name: "default schemes, key", api: func(a *keymanager.API) { a.Security = nil }, with: withKey, want: "200"},
		{name: "default schemes, query", api: func(a *keymanager.API) { a.Security = nil }, path: "/items?apikey=" + goodKey, want: "401 900902 missing_credential"},

		// The credential's standing.
		{name: "revoked", grant: reason(keymanager.ReasonRevoked), with: withToken, want: "401 900901 revoked"},
		{name: "expired by the key manager", grant: reason(keymanager.ReasonExpired), with: withToken, want: "401 900903 expired"},
		{name: "expired by the clock here", grant: func(v *verdict) { v.ExpiresAt = time.Now().Add(-time.Second) }, with: withToken, want: "401 900903 expired"},
		{name: "never expires", grant: func(v *verdict) { v.ExpiresAt = time.Time{} }, with: withKey, want: "200"},
		{name: "application inactive", grant: reason(keymanager.ReasonApplicationInactive), with: withToken, want: "401 900901 application_inactive"},
		{name: "user inactive", grant: reason(keymanager.ReasonUserInactive), with: withToken, want: "401 900901 user_inactive"},
		{name: "reason of a later version", grant: reason(99), with: withToken, want: "503 900900 unknown_verdict"},
		{name: "nothing decided", grant: reason(keymanager.ReasonUnknown), with: withToken, want: "503 900900 unknown_verdict"},
		{name: "active without facts", grant: func(v *verdict) { v.Grant = nil }, with: withToken, want: "503 900900 unknown_verdict"},

		// Environments.
		{name: "sandbox key", grant: grant(func(g *keymanager.Grant) { g.KeyType = keymanager.Sandbox }), with: withToken, want: "200"},
		{name: "production key, no endpoint", api: func(a *keymanager.API) { a.Production = nil }, with: withToken, want: "401 900901 no_endpoint"},
		{name: "sandbox key, no endpoint", api: func(a *keymanager.API) { a.Sandbox = nil }, grant: grant(func(g *keymanager.Grant) { g.KeyType = keymanager.Sandbox }), with: withToken, want: "401 900901 no_endpoint"},
		{name: "no key type", grant: grant(func(g *keymanager.Grant) { g.KeyType = "" }), with: withToken, want: "401 900901 no_endpoint"},
		{name: "key type of a later version", grant: grant(func(g *keymanager.Grant) { g.KeyType = "STAGING" }), with: withToken, want: "401 900901 no_endpoint"},

		// Subscriptions.
		{name: "not subscribed", grant: grant(func(g *keymanager.Grant) { g.Subscription = nil }), with: withToken, want: "403 900908 not_subscribed"},
		{name: "tier update pending", grant: state(keymanager.TierUpdatePending), with: withToken, want: "200"},
		{name: "subscription blocked", grant: state(keymanager.Blocked), with: withToken, want: "401 900907 subscription_blocked"},
		{name: "production blocked, production key", grant: state(keymanager.ProdOnlyBlocked), with: withToken, want: "401 900907 subscription_blocked"},
		{name: "production blocked, sandbox key", grant: grant(func(g *keymanager.Grant) {
			g.Subscription.State, g.KeyType = keymanager.ProdOnlyBlocked, keymanager.Sandbox
		}), with: withToken, want: "200"},
		{name: "on hold", grant: state(keymanager.OnHold), with: withToken, want: "401 900909 subscription_inactive"},
		{name: "rejected", grant: state(keymanager.Rejected), with: withToken, want: "401 900909 subscription_inactive"},
		{name: "no state", grant: state(""), with: withToken, want: "401 900909 subscription_inactive"},
		{name: "state of a later version", grant: state("PAUSED"), with: withToken, want: "401 900909 subscription_inactive"},

		// Resources.
		{name: "one scope of two", path: "/items/7", with: withToken, want: "200"},
		{name: "scope missing", method: "DELETE", path: "/items/7", with: withToken, want: "403 900910 insufficient_scope"},
		{name: "scope missing, key", method: "DELETE", path: "/items/7", with: withKey, want: "403 900910 insufficient_scope"},
		{name: "no scopes at all", path: "/items/7", grant: grant(func(g *keymanager.Grant) { g.Scopes = nil }), with: withToken, want: "403 900910 insufficient_scope"},
		{name: "scope in another case", path: "/items/7", grant: grant(func(g *keymanager.Grant) { g.Scopes = []keymanager.Scope{"PETS:READ"} }), with: withToken, want: "403 900910 insufficient_scope"},
		{name: "application's token for applications", path: "/app", with: withToken, want: "200"},
		{name: "application's token for users", path: "/me", with: withToken, want: "401 900905 wrong_token_type"},
		{name: "user's token for users", path: "/me", grant: grant(func(g *keymanager.Grant) { g.UserType = keymanager.UserTypeApplicationUser }), with: withToken, want: "200"},
		{name: "user's token for applications", path: "/app", grant: grant(func(g *keymanager.Grant) { g.UserType = keymanager.UserTypeApplicationUser }), with: withToken, want: "401 900905 wrong_token_type"},
		{name: "user's token for any", grant: grant(func(g *keymanager.Grant) { g.UserType = keymanager.UserTypeApplicationUser }), with: withToken, want: "200"},
		{name: "no user type", grant: grant(func(g *keymanager.Grant) { g.UserType = "" }), with: withToken, want: "401 900905 wrong_token_type"},
		{name: "public", path: "/public", want: "200"},
		{name: "public with a credential that is bad", path: "/public", with: []string{"authorization", "Bearer nonsense,"}, want: "200"},

		// Restrictions.
		{name: "from its network", grant: network, with: from("192.0.2.7"), want: "200"},
		{name: "from its IPv6 network", grant: network, with: from("2001:db8::7"), want: "200"},
		{name: "from its network, mapped", grant: network, with: from("::ffff:192.0.2.7"), want: "200"},
		{name: "from elsewhere", grant: network, with: from("198.51.100.1"), want: "403 900908 network_refused"},
		{name: "from nowhere", grant: network, with: withKey, want: "403 900908 network_refused"},
		{name: "from garbage", grant: network, with: from("192.0.2.7, 10.0.0.1"), want: "403 900908 network_refused"},
		{name: "from two places", grant: network, with: from("192.0.2.7", "x-envoy-external-address", "192.0.2.7"), want: "403 900908 network_refused"},
		{name: "forwarded-for is not looked at", grant: network, with: append(withKey, "x-forwarded-for", "192.0.2.7"), want: "403 900908 network_refused"},
		{name: "from its page", grant: referer, with: append(withKey, "referer", "https://app.example.com/shop?x=1"), want: "200"},
		{name: "from another page", grant: referer, with: append(withKey, "referer", "https://evil.example/https://app.example.com/"), want: "403 900908 referer_refused"},
		{name: "from a longer host", grant: referer, with: append(withKey, "referer", "https://app.example.com.evil.example/"), want: "403 900908 referer_refused"},
		{name: "from no page", grant: referer, with: withKey, want: "403 900908 referer_refused"},
		{name: "from two pages", grant: referer, with: append(withKey, "referer", "https://app.example.com/", "referer", "https://app.example.com/"), want: "403 900908 referer_refused"},
		{name: "network and referer, both hold", grant: func(v *verdict) { network(v); referer(v) }, with: from("192.0.2.7", "referer", "https://app.example.com/"), want: "200"},
		{name: "network and referer, only the network holds", grant: func(v *verdict) { network(v); referer(v) }, with: from("192.0.2.7"), want: "403 900908 referer_refused"},
		{name: "network and referer, only the referer holds", grant: func(v *verdict) { network(v); referer(v) }, with: append(withKey, "referer", "https://app.example.com/"), want: "403 900908 network_refused"},

		// APIs.
		{name: "blocked API", api: func(a *keymanager.API) { a.State = keymanager.StateBlocked }, with: withToken, want: "503 700700 api_blocked"},
		{name: "blocked API, public resource", api: func(a *keymanager.API) { a.State = keymanager.StateBlocked }, path: "/public", want: "503 700700 api_blocked"},
		{name: "deprecated API", api: func(a *keymanager.API) { a.State = keymanager.StateDeprecated }, with: withToken, want: "200"},
		{name: "retired API", api: func(a *keymanager.API) { a.State = keymanager.StateRetired }, with: withToken, want: "404 404 unknown_api"},
		{name: "broken API", api: func(a *keymanager.API) { a.Resources[0].AuthType = "" }, with: withToken, want: "503 900900 broken_api"},
		{name: "broken API, public resource", api: func(a *keymanager.API) { a.Resources[0].AuthType = "" }, path: "/public", want: "503 900900 broken_api"},
		{name: "public resource, no endpoint at all", api: func(a *keymanager.API) { a.Production, a.Sandbox = nil, nil }, path: "/public", want: "503 900900 broken_api"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			api := petsAPI()
			if tt.api != nil {
				tt.api(api)
			}
			r := newRig(t, nil, api).run(t)
			r.grant(tt.grant)
			path := tt.path
			if path == "" {
				path = "/items"
			}
			status, rest, _ := strings.Cut(tt.want, " ")
			code, reason, _ := strings.Cut(rest, " ")
			for _, temperature := range []string{"cold", "warm"} {
				got := see(t, r.check(t, call{method: tt.method, path: envoyPath + path, headers: tt.with}))
				want := seen{number(status), code, reason, code == "900900"}
				if got != want {
					t.Errorf("%s: %+v, want %+v", temperature, got, want)
				}
			}
		})
	}
}

func number(s string) (n int) {
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

func TestKeyInTheQuery(t *testing.T) {
	api := petsAPI()
	api.Security = []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeAPIKey, keymanager.SchemeAPIKeyQuery}
	r := newRig(t, nil, api).run(t)
	r.grant(nil)
	for _, tt := range []struct {
		name, query string
		with        []string
		want        seen
		removed     string // parameters
	}{
		{"key", "apikey=" + goodKey, nil, seen{status: 200}, "apikey"},
		{"key among others", "b=2&apikey=" + goodKey + "&a=1", nil, seen{status: 200}, "apikey"},
		{"twice", "apikey=" + goodKey + "&apikey=" + goodKey, nil, seen{401, "900901", "several_credentials", false}, ""},
		{"and in the header", "apikey=" + goodKey, withKey, seen{401, "900901", "several_credentials", false}, ""},
		{"and a token", "apikey=" + goodKey, withToken, seen{401, "900901", "several_credentials", false}, ""},
		{"empty", "apikey=", nil, seen{401, "900901", "not_ours", false}, ""},
		{"another name", "APIKEY=" + goodKey, nil, seen{401, "900902", "missing_credential", false}, ""},
		{"escaped name", "api%6Bey=" + goodKey, nil, seen{401, "900902", "missing_credential", false}, ""},
		{"after a semicolon", "x=1;apikey=" + goodKey, nil, seen{401, "900902", "missing_credential", false}, ""},
		{"escaped value", "apikey=tgak%5Fgood1", nil, seen{401, "900901", "not_ours", false}, ""},
		{"header alone", "a=1", withKey, seen{status: 200}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := r.check(t, call{path: envoyPath + "/items?" + tt.query, headers: tt.with})
			if got := see(t, m); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if got := strings.Join(m.GetOkResponse().GetQueryParametersToRemove(), " "); got != tt.removed {
				t.Errorf("removed from the query: %q, want %q", got, tt.removed)
			}
		})
	}
}

// TestRoutes is what the route says beside the request.
func TestRoutes(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Group, o.CatalogWait = "edge", time.Millisecond }).run(t)
	r.grant(nil)
	head := r.km.Head().Seq
	for _, tt := range []struct {
		name       string
		api        string
		extensions map[string]string
		want       seen
	}{
		{"as here", "", map[string]string{"gw": "edge"}, seen{status: 200}},
		{"older than here", "", map[string]string{"rev": "0"}, seen{status: 200}},
		{"no api_id", "-", nil, seen{503, "900900", "no_api_id", true}},
		{"empty api_id", "", map[string]string{"api_id": ""}, seen{503, "900900", "no_api_id", true}},
		{"no such API, all known", "gone", map[string]string{"rev": "1"}, seen{404, "404", "unknown_api", false}},
		{"no such API, no revision", "gone", nil, seen{404, "404", "unknown_api", false}},
		{"newer than here", "", map[string]string{"rev": "99"}, seen{503, "900900", "behind_route", true}},
		{"no such API yet", "soon", map[string]string{"rev": "99"}, seen{503, "900900", "behind_route", true}},
		{"revision is not a number", "", map[string]string{"rev": "x"}, seen{503, "900900", "malformed_check", true}},
		{"another gateway group", "", map[string]string{"gw": "other"}, seen{503, "900900", "wrong_gateway", true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := see(t, r.check(t, call{api: tt.api, path: envoyPath + "/items", headers: withToken, extensions: tt.extensions}))
			if got != tt.want {
				t.Errorf("%+v, want %+v (head %d)", got, tt.want, head)
			}
		})
	}
	if r.server.record.ahead.value() != 1 || r.server.record.behind.value() != 2 {
		t.Errorf("skew: %d ahead, %d behind; want 1 and 2", r.server.record.ahead.value(), r.server.record.behind.value())
	}
}

// TestWaitsForTheCatalog: a request whose route is newer waits until the change
// is here.
func TestWaitsForTheCatalog(t *testing.T) {
	r := newRig(t, func(o *Options) { o.CatalogWait = time.Minute }).run(t)
	r.grant(nil)
	answers := make(chan seen, 2)
	for _, id := range []string{"api-pets", "api-new"} {
		go func() {
			answers <- see(t, r.check(t, call{api: id, path: "/new/1/x", headers: withToken, extensions: map[string]string{"rev": "3"}}))
		}()
	}
	eventually(t, "both wait", func() bool { return r.server.record.behind.value() == 2 })
	moved := petsAPI()
	moved.Context, moved.Version = "/new", "1"
	moved.Resources = []keymanager.Resource{{Method: "GET", Path: "/*", AuthType: keymanager.AuthAny}}
	added := *moved
	added.ID = "api-new"
	r.km.SetAPI(moved, &added)
	for range 2 {
		if got := <-answers; got.status != 200 {
			t.Errorf("%+v", got)
		}
	}
}

func TestMalformedMessage(t *testing.T) {
	r := newRig(t, nil).run(t)
	for _, message := range []string{"\x0a\x05abc", "\xff"} {
		if got := see(t, decodeReply(t, r.server.check(t.Context(), message))); got != (seen{503, "900900", "malformed_check", true}) {
			t.Errorf("%q: %+v", message, got)
		}
	}
	if got := see(t, decodeReply(t, r.server.check(t.Context(), ""))); got != (seen{503, "900900", "no_api_id", true}) {
		t.Errorf("empty: %+v", got)
	}
}

// TestOutagesAreNotDenials: what is not known is 503.
func TestOutagesAreNotDenials(t *testing.T) {
	ask := func(r *rig) seen {
		return see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken}))
	}
	t.Run("not loaded", func(t *testing.T) {
		if got := ask(newRig(t, nil)); got != (seen{503, "900900", "syncing", true}) {
			t.Errorf("%+v", got)
		}
	})
	for name, f := range map[string]func(context.Context, keymanager.Query) (*keymanager.Verdict, error){
		"down":   func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, errors.New("down") },
		"panics": func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { panic("bug") },
		"not found, which no Validator says": func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
			return nil, keymanager.Errorf(keymanager.KindNotFound, "no")
		},
		"hangs": func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run("key manager "+name, func(t *testing.T) {
			r := newRig(t, nil).run(t)
			r.grant(nil)
			r.km.OnValidate(f)
			if got := ask(r); got != (seen{503, "900900", "key_manager_unavailable", true}) {
				t.Errorf("%+v", got)
			}
			r.km.OnValidate(nil)
			if got := ask(r); got.status != 200 {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
	t.Run("says nothing", func(t *testing.T) {
		r := newRig(t, nil).run(t)
		r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, nil })
		if got := ask(r); got != (seen{503, "900900", "unknown_verdict", true}) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("authz panics", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Tags = panicTags{} }).run(t)
		m := r.check(t, call{path: envoyPath + "/items", headers: withToken})
		if e := m.GetErrorResponse(); e.GetStatus().GetCode() != 503 || m.GetDynamicMetadata().GetFields()["reason"].GetStringValue() != "panicked" {
			t.Errorf("%v", m)
		}
		if r.server.record.decisions[panicked].value() != 1 {
			t.Error("a panic is not counted")
		}
	})
	t.Run("busy", func(t *testing.T) {
		r := newRig(t, nil).run(t)
		release := make(chan struct{})
		defer close(release)
		r.km.OnValidate(func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, errors.New("late")
		})
		reasons := make(chan string, 200)
		for i := range 200 {
			go func() {
				reasons <- see(t, r.check(t, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + goodToken + fmt.Sprint(i)}})).reason
			}()
		}
		count := map[string]int{}
		for range 200 {
			count[<-reasons]++
		}
		if _, most := r.km.Validations(); most > 64 || count["overloaded"] < 100 || count["overloaded"]+count["key_manager_unavailable"] != 200 {
			t.Errorf("%d calls at once; %v", most, count)
		}
	})
}

type panicTags struct{}

func (panicTags) Check(keymanager.CredentialKind, string) bool { panic("tgat_good1") }

// TestNoLookUpForWhatIsNotOurs: a flood of forged credentials reaches nobody.
func TestNoLookUpForWhatIsNotOurs(t *testing.T) {
	r := newRig(t, nil).run(t)
	for _, value := range []string{"x", "tgat_bad", "tgrt_good", strings.Repeat("\xff", 100), "a.b.c", strings.Repeat("a", 200_000)} {
		for _, header := range [][]string{{"authorization", "Bearer " + value}, {"apikey", value}} {
			if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: header})); got.status != 401 || got.code != "900901" {
				t.Errorf("%.20q: %+v", value, got)
			}
		}
	}
	calls, _ := r.km.Validations()
	active, negative := r.lru.Len()
	if calls != 0 || active+negative != 0 {
		t.Errorf("%d calls of the key manager, %d entries cached", calls, active+negative)
	}
}

// TestCacheOff: every call asks, with token and API.
func TestCacheOff(t *testing.T) {
	off := petsAPI()
	off.Cache = keymanager.CacheOff
	r := newRig(t, nil, off).run(t)
	r.grant(nil)
	for range 5 {
		if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got.status != 200 {
			t.Fatalf("%+v", got)
		}
	}
	calls, _ := r.km.Validations()
	active, negative := r.lru.Len()
	if calls != 5 || active+negative != 0 {
		t.Errorf("%d calls, %d entries cached; want 5 and none", calls, active+negative)
	}
}

// TestRevocationAfterTheCache: every event takes effect on the next call,
// however warm the caches are.
func TestRevocationAfterTheCache(t *testing.T) {
	blocked := func(v *keymanager.Verdict) { v.Grant.Subscription.State = keymanager.Blocked }
	for _, tt := range []struct {
		name    string
		event   func(*keymanagertest.KeyManager) keymanager.Position
		then    func(*keymanager.Verdict) // what the key manager says from now on
		want    seen
		asks    int // calls of the key manager after the event
		without bool
	}{
		{"token", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1}})
		}, nil, seen{401, "900901", "revoked", false}, 0, false},
		{"client", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Kill(keymanager.Dead{ConsumerKey: "consumer-1", NotBefore: time.Now()})
		}, nil, seen{401, "900901", "revoked", false}, 0, false},
		{"token, key manager down", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1}})
		}, nil, seen{401, "900901", "revoked", false}, 0, true},
		{"subscription blocked", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Stale(keymanager.Stale{Application: "app-1"})
		}, blocked, seen{401, "900907", "subscription_blocked", false}, 1, false},
		{"another application", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Stale(keymanager.Stale{Application: "app-2"})
		}, blocked, seen{status: 200}, 0, false},
		{"outdated, key manager down", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Stale(keymanager.Stale{Application: "app-1"})
		}, nil, seen{503, "900900", "key_manager_unavailable", true}, 1, true},
		{"another line of history", (*keymanagertest.KeyManager).NewEpoch, blocked, seen{401, "900907", "subscription_blocked", false}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil).run(t)
			r.grant(nil)
			ask := func() seen {
				return see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken, extensions: map[string]string{"rev": "0"}}))
			}
			for range 3 {
				if got := ask(); got.status != 200 {
					t.Fatalf("before: %+v", got)
				}
			}
			if n, _ := r.km.Validations(); n != 1 {
				t.Fatalf("%d calls before the event, want 1", n)
			}
			r.grant(tt.then)
			r.settle(t, tt.event(r.km))
			if tt.without {
				r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, errors.New("down") })
			}
			for i := range 3 {
				if got := ask(); got != tt.want {
					t.Errorf("call %d: %+v, want %+v", i, got, tt.want)
				}
				if tt.want.isError {
					return // and asks each time
				}
			}
			if n, _ := r.km.Validations(); n != 1+tt.asks {
				t.Errorf("%d calls after the event, want %d", n-1, tt.asks)
			}
		})
	}
}

// TestVerdictReadBeforeTheEvent: a slow read brings facts from before a
// revocation, and is not believed.
func TestVerdictReadBeforeTheEvent(t *testing.T) {
	r := newRig(t, nil).run(t)
	v := r.grant(nil)
	old := *v
	old.Head = r.km.Head()
	reads := make(chan struct{}, 10)
	release := make(chan struct{})
	first := true
	r.km.OnValidate(func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
		if first {
			first = false
			reads <- struct{}{}
			<-release
			return &old, nil // read before, comes after
		}
		fresh := *v
		grant := *v.Grant
		fresh.Grant, fresh.Head = &grant, r.km.Head()
		fresh.Grant.Subscription = nil
		return &fresh, nil
	})
	answer := make(chan seen, 1)
	go func() { answer <- see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})) }()
	<-reads
	r.settle(t, r.km.Stale(keymanager.Stale{Application: "app-1"}))
	close(release)
	if got := <-answer; got != (seen{403, "900908", "not_subscribed", false}) {
		t.Errorf("%+v", got)
	}
	// A key manager that never catches up decides nothing.
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return &old, nil })
	r.settle(t, r.km.Stale(keymanager.Stale{Application: "app-1"}))
	if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got != (seen{503, "900900", "outdated", true}) {
		t.Errorf("%+v", got)
	}
}

// TestKeysOfTheTagDiffer: what authz takes for ours and the key manager does
// not is refused, though such a verdict has no place in the log.
func TestKeysOfTheTagDiffer(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}, nil
	})
	if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got != (seen{401, "900901", "unknown_credential", false}) {
		t.Errorf("%+v", got)
	}
}

// TestDecisionsDoNotMix: one token on two APIs and two methods, alternating
// from many callers.
func TestDecisionsDoNotMix(t *testing.T) {
	other := petsAPI()
	other.ID, other.Context = "api-other", "/other"
	r := newRig(t, nil, petsAPI(), other).run(t)
	v := r.grant(nil)
	unsubscribed := *v
	grant := *v.Grant
	grant.Subscription = nil
	unsubscribed.Grant = &grant
	r.km.SetVerdict(keymanager.Credential{Kind: keymanager.AccessToken, Value: goodToken}, "api-other", &unsubscribed)
	cases := []struct {
		c    call
		want int
	}{
		{call{path: envoyPath + "/items/1", headers: withToken}, 200},
		{call{method: "DELETE", path: envoyPath + "/items/1", headers: withToken}, 403},
		{call{api: "api-other", path: "/other/1.0.0/items/1", headers: withToken, extensions: map[string]string{"rev": "2"}}, 403},
		{call{path: envoyPath + "/items/1"}, 401},
	}
	done := make(chan struct{})
	for worker := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				tt := cases[(worker+i)%len(cases)]
				if got := see(t, r.check(t, tt.c)); got.status != tt.want {
					t.Errorf("%+v: %+v", tt.c, got)
				}
			}
		}()
	}
	for range 8 {
		<-done
	}
}
