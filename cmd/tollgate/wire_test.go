package main

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wireManifest has what a verdict depends on in every state.
const wireManifest = `
{kind: User, organization: default, name: alice, spec: {}}
---
{kind: User, organization: default, name: mallory, spec: {status: DISABLED}}
---
kind: API
organization: default
name: pets
spec:
  version: 1.0.0
  context: /pets
  state: PUBLISHED
  production: [http://127.0.0.1:1/]
  sandbox: [http://127.0.0.1:2/]
  tiers: [Gold, Silver]
  securitySchemes: [oauth2, api_key, api_key_query]
  resources:
    - {method: GET, path: "/items/{id}"}
    - {method: POST, path: /items, scopes: ["pets:write"]}
    - {method: GET, path: /private, scopes: ["pets:read"]}
    - {method: GET, path: /users, authType: Application_User}
    - {method: GET, path: /open, authType: None}
---
kind: API
organization: default
name: uncached
spec:
  version: 1.0.0
  context: /uncached
  state: PUBLISHED
  production: [http://127.0.0.1:1/]
  cache: "off"
  resources: [{method: GET, path: /}]
---
kind: API
organization: default
name: blocked
spec: {version: 1.0.0, context: /blocked, state: BLOCKED, production: [http://127.0.0.1:1/], resources: [{method: GET, path: /}]}
---
kind: API
organization: default
name: other
spec: {version: 1.0.0, context: /other, state: PUBLISHED, production: [http://127.0.0.1:1/], resources: [{method: GET, path: /}]}
---
{kind: Application, organization: default, name: shop, spec: {owner: alice, attributes: {team: blue}}}
---
{kind: Application, organization: default, name: held, spec: {owner: alice}}
---
{kind: Application, organization: default, name: rejected, spec: {owner: alice}}
---
{kind: Application, organization: default, name: fraud, spec: {owner: alice}}
---
{kind: Subscription, organization: default, name: shop-pets, spec: {application: shop, api: pets/1.0.0, tier: Gold}}
---
{kind: Subscription, organization: default, name: shop-uncached, spec: {application: shop, api: uncached/1.0.0}}
---
{kind: Subscription, organization: default, name: shop-blocked, spec: {application: shop, api: blocked/1.0.0}}
---
{kind: Subscription, organization: default, name: held-pets, spec: {application: held, api: pets/1.0.0, tier: Silver}}
---
{kind: Subscription, organization: default, name: rejected-pets, spec: {application: rejected, api: pets/1.0.0, tier: Silver}}
---
{kind: Subscription, organization: default, name: fraud-pets, spec: {application: fraud, api: pets/1.0.0, tier: Silver}}
`

// wireChanges come after the callers have their credentials.
const wireChanges = `
{kind: Subscription, organization: default, name: held-pets, spec: {application: held, api: pets/1.0.0, state: ON_HOLD}}
---
{kind: Application, organization: default, name: rejected, spec: {owner: alice, status: REJECTED}}
---
{kind: Application, organization: default, name: fraud, spec: {owner: mallory}}
`

// wireCases are calls, and what must become of them whatever the database.
var wireCases = []struct {
	name       string
	api        string
	method     string
	path       string
	credential string // name of a secret, as a bearer token
	apiKey     string // name of a secret, in the header apikey
	header     string // Authorization as it is
	code       string // of the refusal; "" = allowed
	status     int
}{
	{name: "production token", api: "pets", path: "/items/7", credential: "shop", status: 200},
	{name: "the same from memory", api: "pets", path: "/items/7?q=1", credential: "shop", status: 200},
	{name: "sandbox token", api: "pets", path: "/items/7", credential: "shop sandbox", status: 200},
	{name: "API key", api: "pets", path: "/items/7", apiKey: "shop key", status: 200},
	{name: "sandbox API key", api: "pets", path: "/items/7", apiKey: "shop sandbox key", status: 200},
	{name: "no credential needed", api: "pets", path: "/open", status: 200},
	{name: "scope", api: "pets", method: "POST", path: "/items", credential: "shop", status: 200},
	{name: "without cache", api: "uncached", path: "/", credential: "shop", status: 200},
	{name: "no credential", api: "pets", path: "/items/7", status: 401, code: "900902"},
	{name: "nonsense", api: "pets", path: "/items/7", header: "Bearer nonsense", status: 401, code: "900901"},
	{name: "Basic", api: "pets", path: "/items/7", header: "Basic bm9uc2Vuc2U=", status: 401, code: "900902"},
	{name: "two in one header", api: "pets", path: "/items/7", header: "Bearer a,Bearer b", status: 401, code: "900901"},
	{name: "two credentials", api: "pets", path: "/items/7", credential: "shop", apiKey: "shop key", status: 401, code: "900901"},
	{name: "a token where a key belongs", api: "pets", path: "/items/7", apiKey: "shop", status: 401, code: "900901"},
	{name: "a key where a token belongs", api: "pets", path: "/items/7", credential: "shop key", status: 401, code: "900901"},
	{name: "revoked token", api: "pets", path: "/items/7", credential: "shop revoked", status: 401, code: "900901"},
	{name: "revoked key", api: "pets", path: "/items/7", apiKey: "shop revoked key", status: 401, code: "900901"},
	{name: "key for another network", api: "pets", path: "/items/7", apiKey: "shop far key", status: 403, code: "900908"},
	{name: "without the scope", api: "pets", method: "POST", path: "/items", credential: "shop narrow", status: 403, code: "900910"},
	{name: "API key has no scopes", api: "pets", method: "POST", path: "/items", apiKey: "shop key", status: 403, code: "900910"},
	{name: "a user's resource", api: "pets", path: "/users", credential: "shop", status: 401, code: "900905"},
	{name: "no such resource", api: "pets", path: "/nothing", credential: "shop", status: 403, code: "900906"},
	{name: "no such method", api: "pets", method: "PUT", path: "/items/7", credential: "shop", status: 403, code: "900906"},
	{name: "not subscribed", api: "other", path: "/", credential: "shop", status: 403, code: "900908"},
	{name: "subscription on hold", api: "pets", path: "/items/7", credential: "held", status: 401, code: "900909"},
	{name: "application rejected", api: "pets", path: "/items/7", credential: "rejected", status: 401, code: "900901"},
	{name: "owner disabled", api: "pets", path: "/items/7", credential: "fraud", status: 401, code: "900901"},
	{name: "no sandbox endpoint", api: "uncached", path: "/", credential: "shop sandbox", status: 401, code: "900901"},
	{name: "API blocked", api: "blocked", path: "/", credential: "shop", status: 503, code: "700700"},
}

// Every backend gives the same verdicts, refusals and headers.
func TestEveryBackendDecidesTheSame(t *testing.T) {
	stores := map[string]func(*testing.T) StoreConfig{
		"SQLite": func(*testing.T) StoreConfig { return StoreConfig{} },
	}
	for name, store := range otherStores {
		stores[name] = store
	}
	answers := map[string][]string{}
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			w := newWireWorld(t, store(t))
			for _, tc := range wireCases {
				t.Run(tc.name, func(t *testing.T) {
					status, code, text := w.call(t, tc.api, orGet(tc.method), tc.path, w.headers(tc.credential, tc.apiKey, tc.header))
					if status != tc.status || code != tc.code {
						t.Errorf("%d %q, want %d %q\n%s", status, code, tc.status, tc.code, text)
					}
					answers[name] = append(answers[name], tc.name+"\n"+text)
				})
			}
		})
	}
	for name := range stores {
		if diff := cmp.Diff(answers["SQLite"], answers[name]); diff != "" {
			t.Errorf("(-SQLite +%s)\n%s", name, diff)
		}
	}
}

func orGet(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}
