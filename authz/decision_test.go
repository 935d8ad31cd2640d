package authz

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"tollgate/envoy"
	"tollgate/keymanager"
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
	t.Parallel()
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
