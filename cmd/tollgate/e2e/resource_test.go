//go:build !short

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// resourceWorld is what the gateway of TestResourceServer serves: one API of
// each kind, and an application for each way to be refused.
const resourceWorld = `
kind: User
organization: default
name: alice
spec: {}
---
kind: API
organization: default
name: shop
spec:
  version: 1.0.0
  context: /shop
  state: PUBLISHED
  production: [PRODUCTION_URL]
  sandbox: [SANDBOX_URL]
  tiers: [Gold, Bronze]
  resources:
    - {method: GET, path: /items}
    - {method: GET, path: "/items/{id}"}
    - {method: POST, path: /items, scopes: ["shop:write", "shop:admin"]}
    - {method: DELETE, path: "/items/{id}", scopes: ["shop:admin"]}
    - {method: GET, path: /open, authType: None}
    - {method: GET, path: /user, authType: Application_User}
    - {method: GET, path: /app, authType: Application}
    - {method: "*", path: "/any/*"}
---
kind: API
organization: default
name: stock
spec:
  version: 1.0.0
  context: /stock
  state: PUBLISHED
  production: [PRODUCTION_URL]
  tiers: [Gold, Bronze]
  securitySchemes: [oauth2, api_key, api_key_query]
  resources: [{method: GET, path: /items}, {method: GET, path: /admin, scopes: ["stock:admin"]}]
---
kind: API
organization: default
name: trial
spec:
  version: 1.0.0
  context: /trial
  state: PUBLISHED
  sandbox: [SANDBOX_URL]
  resources: [{method: GET, path: /items}, {method: GET, path: /open, authType: None}]
---
kind: API
organization: default
name: lone
spec:
  version: 1.0.0
  context: /lone
  state: PUBLISHED
  production: [PRODUCTION_URL]
  resources: [{method: GET, path: /items}, {method: GET, path: /open, authType: None}]
---
kind: API
organization: default
name: stopped
spec:
  version: 1.0.0
  context: /stopped
  state: BLOCKED
  production: [PRODUCTION_URL]
  resources: [{method: GET, path: /items}, {method: GET, path: /open, authType: None}]
---
kind: API
organization: default
name: rpc
spec:
  version: 1.0.0
  context: /grpc.testing.TestService
  protocol: grpc
  state: PUBLISHED
  production: [GRPC_URL]
  tiers: [Gold]
  resources: [{method: POST, path: /UnaryCall}, {method: POST, path: /EmptyCall, scopes: ["rpc:empty"]}]
---
kind: Application
organization: default
name: buyer
spec: {owner: alice}
---
kind: Key
organization: default
name: buyer/PRODUCTION
spec: {}
---
kind: Key
organization: default
name: buyer/SANDBOX
spec: {}
---
kind: Subscription
organization: default
name: buyer-shop
spec: {application: buyer, api: shop/1.0.0, tier: Gold}
---
kind: Subscription
organization: default
name: buyer-stock
spec: {application: buyer, api: stock/1.0.0, tier: Bronze}
---
kind: Subscription
organization: default
name: buyer-trial
spec: {application: buyer, api: trial/1.0.0}
---
kind: Subscription
organization: default
name: buyer-lone
spec: {application: buyer, api: lone/1.0.0}
---
kind: Subscription
organization: default
name: buyer-rpc
spec: {application: buyer, api: rpc/1.0.0}
---
kind: Application
organization: default
name: blocked
spec: {owner: alice}
---
kind: Key
organization: default
name: blocked/PRODUCTION
spec: {}
---
kind: Subscription
organization: default
name: blocked-shop
spec: {application: blocked, api: shop/1.0.0, tier: Gold, state: BLOCKED}
---
kind: Application
organization: default
name: held
spec: {owner: alice}
---
kind: Key
organization: default
name: held/PRODUCTION
spec: {}
---
kind: Subscription
organization: default
name: held-shop
spec: {application: held, api: shop/1.0.0, tier: Gold, state: ON_HOLD}
---
kind: Application
organization: default
name: brief
spec: {owner: alice}
---
kind: Key
organization: default
name: brief/PRODUCTION
spec: {tokenLifetime: 1s}
---
kind: Subscription
organization: default
name: brief-shop
spec: {application: brief, api: shop/1.0.0, tier: Gold}
---
kind: Application
organization: default
name: second
spec: {owner: alice}
---
kind: Key
organization: default
name: second/PRODUCTION
spec: {}
---
kind: Subscription
organization: default
name: second-shop
spec: {application: second, api: shop/1.0.0, tier: Bronze}
`

// What a caller of APIs is promised, with everything real between it and the
// back end.
func TestResourceServer(t *testing.T) {
	pl := newPlace(t, resourceWorld)
	for _, part := range []struct {
		name  string
		check func(*testing.T, *place)
	}{
		{"refusals", refusals},
		{"refusals of gRPC calls", refusalsOfGRPC},
		{"ways to send a token", waysToSend},
		{"API keys", apiKeys},
		{"restricted API keys", restrictedKeys},
		{"what is stripped", stripped},
		{"identity", identity},
		{"names are compared whole", wholeNames},
		{"two tokens, two APIs", twoAPIs},
		{"passage", passage},
		{"environments", environments},
		{"paths", paths},
		{"methods", methods},
		{"hostile credentials", hostile},
		{"authz hangs", authzHangs},
	} {
		t.Run(part.name, func(t *testing.T) { part.check(t, pl) })
	}
	pl.process.Stop()
	logs := pl.AllLogs()
	for name, c := range pl.keys {
		if c.Secret != "" && strings.Contains(logs, c.Secret) {
			t.Errorf("the secret of %s is in a log", name)
		}
	}
	if strings.Contains(logs, "tgat_") || strings.Contains(logs, "tgak_") || strings.Contains(logs, "level=ERROR") {
		t.Errorf("a token, an API key or an error is in a log")
	}
}

// refusals: each way to be refused, told in JSON, as RFC 9457, and to a gRPC
// caller.
func refusals(t *testing.T, pl *place) {
	live := pl.token(t, "buyer", "shop:write")
	none := pl.token(t, "buyer", "stock:admin")
	revoked, brief := pl.token(t, "buyer"), pl.token(t, "brief")
	pl.revoke(t, "buyer/PRODUCTION", revoked)
	unknown := unissued(t, pl.Rig)
	rig.Eventually(t, "the token expires", func() error {
		if r := pl.get(t, "/shop/1.0.0/items", bearer(brief)); r.Status == 200 {
			return fmt.Errorf("%d", r.Status)
		}
		return nil
	})
	key := pl.apiKey(t, "buyer", nil).Key
	rejected := pl.token(t, "held")
	pl.admin.Must(t, "PUT", "/organizations/default/subscriptions/held-shop/state", map[string]string{"state": "REJECTED"}, nil)
	for _, tt := range []struct {
		name, method, target string
		lines                []string
		refusal
	}{
		{"RS1 no credential", "GET", "/shop/1.0.0/items", nil, missing},
		{"RS1 another scheme", "GET", "/shop/1.0.0/items", []string{"Authorization: Basic YTpi"}, missing},
		{"RS1 a scheme that begins so", "GET", "/shop/1.0.0/items", []string{"Authorization: Bearerish " + live}, missing},
		{"RS1 an empty header", "GET", "/shop/1.0.0/items", []string{"Authorization: "}, missing},
		{"RS1 an empty key", "GET", "/shop/1.0.0/items", []string{"apikey: "}, missing},
		{"RS2 not a token", "GET", "/shop/1.0.0/items", []string{bearer("nonsense")}, invalid},
		{"RS2 forged", "GET", "/shop/1.0.0/items", []string{bearer(live[:30] + flip(live[30]) + live[31:])}, invalid},
		{"RS2 cut", "GET", "/shop/1.0.0/items", []string{bearer(live[:len(live)-1])}, invalid},
		{"RS2 never issued", "GET", "/shop/1.0.0/items", []string{bearer(unknown)}, invalid},
		{"RS2 revoked", "GET", "/shop/1.0.0/items", []string{bearer(revoked)}, invalid},
		{"RS2 expired", "GET", "/shop/1.0.0/items", []string{bearer(brief)}, refusal{401, "900903", challengeExpired}},
		{"RS2 a scheme without a token", "GET", "/shop/1.0.0/items", []string{"Authorization: Bearer"}, invalid},
		{"RS3 no scope", "POST", "/shop/1.0.0/items", []string{bearer(none)}, insufficient("shop:write shop:admin")},
		{"RS3 another scope of the API", "DELETE", "/shop/1.0.0/items/1", []string{bearer(live)}, insufficient("shop:admin")},
		{"RS4 token in the query", "GET", "/shop/1.0.0/items?access_token=" + live, nil, missing},
		{"RS4 key in the query", "GET", "/shop/1.0.0/items?apikey=" + key, nil, missing},
		{"RS4 both in the query", "GET", "/shop/1.0.0/items?access_token=" + live + "&apikey=" + key, nil, missing},
		{"RS6 two tokens", "GET", "/shop/1.0.0/items", []string{bearer(live), bearer(live)}, invalid},
		{"RS6 a good and a bad one", "GET", "/shop/1.0.0/items", []string{bearer(live), bearer("x")}, invalid},
		{"RS6 a comma", "GET", "/shop/1.0.0/items", []string{bearer(live + "," + live)}, invalid},
		{"RS6 a comma at the end", "GET", "/shop/1.0.0/items", []string{bearer(live + ",")}, invalid},
		{"RS6 token and key", "GET", "/shop/1.0.0/items", []string{bearer(live), "apikey: " + key}, refusal{401, "900901", challengeKey}},
		{"RS6 two keys", "GET", "/shop/1.0.0/items", []string{"apikey: " + key, "apikey: " + key}, refusal{401, "900901", challengeKey}},
		{"RS6 a key and an empty one", "GET", "/shop/1.0.0/items", []string{"apikey: " + key, "apikey:"}, refusal{401, "900901", challengeKey}},
		{"RS6 a comma in a key", "GET", "/shop/1.0.0/items", []string{"apikey: " + key + "," + key}, refusal{401, "900901", challengeKey}},
		{"RS7 two spaces", "GET", "/shop/1.0.0/items", []string{"Authorization: Bearer  " + live}, invalid},
		{"RS7 a tab", "GET", "/shop/1.0.0/items", []string{"Authorization: Bearer\t" + live}, invalid},
		{"RS7 a blank in the token", "GET", "/shop/1.0.0/items", []string{bearer(live[:20] + " " + live[20:])}, invalid},
		{"RS8 a JWT", "GET", "/shop/1.0.0/items", []string{bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.")}, invalid},
		{"RS8 five segments", "GET", "/shop/1.0.0/items", []string{bearer("a.b.c.d.e")}, invalid},
		{"RS27 a client secret as token", "GET", "/shop/1.0.0/items", []string{bearer(pl.keys["buyer/PRODUCTION"].Secret)}, invalid},
		{"RS27 an API key as token", "GET", "/shop/1.0.0/items", []string{bearer(key)}, invalid},
		{"RS27 a token as API key", "GET", "/shop/1.0.0/items", []string{"apikey: " + live}, refusal{401, "900901", challengeKey}},
		{"application token at a user's resource", "GET", "/shop/1.0.0/user", []string{bearer(live)}, refusal{401, "900905", challengeType}},
		{"not subscribed", "GET", "/stock/1.0.0/items", []string{bearer(pl.token(t, "blocked"))}, forbidden},
		{"RS29 subscription blocked", "GET", "/shop/1.0.0/items", []string{bearer(pl.token(t, "blocked"))}, blocked},
		{"subscription rejected", "GET", "/shop/1.0.0/items", []string{bearer(rejected)}, refusal{401, "900909", challengeInactive}},
		{"no such resource", "GET", "/shop/1.0.0/nothing", []string{bearer(live)}, noMatch},
		{"no such method", "PUT", "/shop/1.0.0/items", []string{bearer(live)}, noMatch},
		{"the API itself", "GET", "/shop/1.0.0", []string{bearer(live)}, noMatch},
		{"API blocked", "GET", "/stopped/1.0.0/items", []string{bearer(live)}, refusal{503, "700700", ""}},
		{"API blocked, open resource", "GET", "/stopped/1.0.0/open", nil, refusal{503, "700700", ""}},
		{"RS28 sandbox key, production alone", "GET", "/lone/1.0.0/items", []string{bearer(pl.token(t, "buyer/SANDBOX"))}, invalid},
		{"RS28 production key, sandbox alone", "GET", "/trial/1.0.0/items", []string{bearer(live)}, invalid},
		{"no such API", "GET", "/nothing/1.0.0/items", []string{bearer(live)}, notFound},
		{"another version", "GET", "/shop/1.0.1/items", []string{bearer(live)}, notFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pl.forget()
			ask := func(more ...string) envoytest.Reply {
				lines := append(append([]string{}, tt.lines...), more...)
				if tt.method != "GET" {
					lines = append(lines, "Content-Length: 0")
				}
				return envoytest.Raw(t, pl.Gateway, envoytest.Request(tt.method, tt.target, "localhost", lines...))
			}
			plain := ask()
			tt.check(t, "JSON", plain)
			tt.check(t, "JSON for an HTML reader", ask("Accept: text/html, */*"))
			tt.check(t, "JSON where problem+json is refused", ask("Accept: application/problem+json;q=0, application/json"))
			tt.checkGRPC(t, "gRPC", ask("Content-Type: application/grpc"), 200)
			// Here Envoy keeps the status of HTTP too.
			tt.checkGRPC(t, "gRPC-web", ask("Content-Type: application/grpc-web+proto"), tt.status)
			if tt.status != 404 { // Envoy's own
				tt.checkProblem(t, "problem", ask("Accept: application/problem+json"))
			}
			if pl.reached() != 0 {
				t.Errorf("back ends were reached %d times", pl.reached())
			}
			// RS32: nothing of what was sent, and of nobody else.
			for _, secret := range []string{live, key, revoked, "alice", "buyer"} {
				if strings.Contains(plain.Body+fmt.Sprint(plain.Header), secret) {
					t.Errorf("the answer says %s", secret)
				}
			}
		})
	}
}

func flip(letter byte) string {
	if letter == 'A' {
		return "B"
	}
	return "A"
}

func (pl *place) revoke(t *testing.T, key, token string) {
	t.Helper()
	a := pl.keys[key].Post(t, "http://"+pl.KeyManager+"/oauth2/revoke", map[string][]string{"token": {token}})
	if a.Status != 200 {
		t.Fatalf("revoke: %d %s", a.Status, a.Body)
	}
}
