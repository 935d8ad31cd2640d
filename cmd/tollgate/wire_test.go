package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

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

// Every backend and every placement gives the same verdicts, refusals and
// headers: from a database of one file or of a server, from a key manager in this
// process or another, and from Redis or without it.
func TestEveryBackendDecidesTheSame(t *testing.T) {
	stores := map[string]func(*testing.T) StoreConfig{
		"SQLite": func(*testing.T) StoreConfig { return StoreConfig{} },
	}
	for name, store := range otherStores {
		stores[name] = store
	}
	caches := map[string]func(*testing.T) RedisConfig{
		"alone": func(*testing.T) RedisConfig { return RedisConfig{} },
	}
	for name, cache := range otherCaches {
		caches[name] = cache
	}
	const reference = "SQLite, in process, alone"
	answers := map[string][]string{}
	for store, makeStore := range stores {
		for cache, makeCache := range caches {
			for place, apart := range map[string]bool{"in process": false, "gRPC": true} {
				name := store + ", " + place + ", " + cache
				t.Run(name, func(t *testing.T) {
					w := newWireWorld(t, wirePlace{store: makeStore(t), redis: makeCache(t), apart: apart})
					answers[name] = w.answers(t)
					if cache != "alone" {
						w.untilRedisAnswers(t, answers[name])
					}
				})
			}
		}
	}
	for name := range answers {
		if diff := cmp.Diff(answers[reference], answers[name]); diff != "" {
			t.Errorf("(-%s +%s)\n%s", reference, name, diff)
		}
	}
}

// answers makes every call, and writes the answers down.
func (w *wireWorld) answers(t *testing.T) (all []string) {
	t.Helper()
	for _, tc := range wireCases {
		status, code, text := w.call(t, tc.api, orGet(tc.method), tc.path, w.headers(tc.credential, tc.apiKey, tc.header))
		if status != tc.status || code != tc.code {
			t.Errorf("%s: %d %q, want %d %q\n%s", tc.name, status, code, tc.status, tc.code, text)
		}
		all = append(all, tc.name+"\n"+text)
	}
	return all
}

// untilRedisAnswers makes the calls again at another authz, which remembers
// nothing of its own, until Redis has answered some of each kind: with a verdict
// of a live credential, and of one that is not. Every answer is the same as the
// first one.
func (w *wireWorld) untilRedisAnswers(t *testing.T, first []string) {
	t.Helper()
	cfg := w.gate.cfg
	cfg.RPC.Servers = []string{w.d.rpcListener.Addr().String()}
	for n, end := 0, time.Now().Add(maxTestWait); ; n++ {
		cfg.Authz.Socket = w.gate.state.Socket(fmt.Sprintf("again-%d.sock", n))
		other := startDaemon(t, cfg, roles{authz: true})
		if diff := cmp.Diff(first, w.at(t, other).answers(t)); diff != "" {
			t.Fatalf("(-first +again)\n%s", diff)
		}
		hits, negative := redisLookups(t, other, "hit"), redisLookups(t, other, "negative")
		if hits > 0 && negative > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("Redis has answered %v times with a live credential's verdict, and %v times with another one", hits, negative)
		}
	}
}

// redisLookups is how often a look-up in Redis had this result.
func redisLookups(t *testing.T, d *daemon, result string) float64 {
	t.Helper()
	families, err := d.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "tollgate_redis_lookups_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func orGet(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}
