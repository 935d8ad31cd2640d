//go:build !short

package e2e

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// effectWorld is one API, an application with a subscription to it, and one
// without.
const effectWorld = `
{kind: User, organization: default, name: alice, spec: {}}
---
kind: API
organization: default
name: shop
spec: ` + shopSpec + `
---
{kind: Application, organization: default, name: buyer, spec: {owner: alice}}
---
{kind: Key, organization: default, name: buyer/PRODUCTION, spec: {}}
---
{kind: Subscription, organization: default, name: buyer-shop, spec: {application: buyer, api: shop/1.0.0, tier: Gold}}
---
{kind: Application, organization: default, name: other, spec: {owner: alice}}
---
{kind: Key, organization: default, name: other/PRODUCTION, spec: {}}
`

const shopSpec = `{version: 1.0.0, context: /shop, state: PUBLISHED, production: [PRODUCTION_URL], tiers: [Gold, Bronze],
  resources: [{method: GET, path: /items}, {method: GET, path: /open, authType: None}, {method: GET, path: /admin, scopes: ["shop:admin"]}]}`

// effects sees how soon a change is felt.
type effects struct {
	*place
	changes, late int
}

// A change is felt on the next call: who made it has its answer when the
// gateway has confirmed it, or after a quarter of a second. On a machine that
// has other things to do a few changes may come later.
func TestChangesTakeEffect(t *testing.T) {
	e := &effects{place: newPlace(t, effectWorld)}
	e.run(t, []effect{
		{"token revoked", (*effects).tokenRevoked},
		{"token revoked while it is used", (*effects).revokedUnderLoad},
		{"subscription", (*effects).subscription},
		{"application", (*effects).application},
		{"user", (*effects).user},
		{"consumer key and secret", (*effects).consumerKey},
		{"API key", (*effects).apiKeyEnds},
		{"API comes and goes", (*effects).apiComesAndGoes},
		{"API changes", (*effects).apiChanges},
		{"cache off for one API", (*effects).cacheOff},
		{"life cycle", (*effects).lifeCycle}, // ends the API
	})
	t.Logf("%d of %d changes were not felt on the next call", e.late, e.changes)
}

// effect is one kind of change, and the check that it is felt.
type effect struct {
	name  string
	check func(*effects, *testing.T)
}

// run checks the parts one after another, and that few changes came late.
func (e *effects) run(t *testing.T, parts []effect) {
	t.Helper()
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) { part.check(e, t) })
	}
	if e.late*5 > e.changes {
		t.Errorf("%d of %d changes were not felt on the next call", e.late, e.changes)
	}
}

// next makes the next call after a change. It must be as wanted at once, or, if
// that is counted, soon.
func (e *effects) next(t *testing.T, what string, status int, code string, call func() envoytest.Reply) {
	t.Helper()
	e.changes++
	try := func() error {
		r := call()
		var body struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal([]byte(r.Body), &body)
		if r.Status != status || body.Code != code {
			return fmt.Errorf("%s: %d %s, want %d %s", what, r.Status, r.Body, status, code)
		}
		return nil
	}
	err := try()
	if err == nil {
		return
	}
	e.late++
	t.Logf("not on the next call: %v", err)
	// What is promised then is a second.
	for deadline := time.Now().Add(10 * time.Second); err != nil; err = try() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// items calls the API, once and then from warm caches.
func (e *effects) items(t *testing.T, lines ...string) func() envoytest.Reply {
	return func() envoytest.Reply { return e.get(t, "/shop/1.0.0/items", lines...) }
}

// warm makes sure that the facts about a credential are in every cache.
func (e *effects) warm(t *testing.T, lines ...string) {
	t.Helper()
	for range 3 {
		e.allowed(t, "before the change", e.items(t, lines...))
	}
}

// put changes an object below the organization.
func (e *effects) put(t *testing.T, path string, spec any) {
	t.Helper()
	e.admin.Must(t, "PUT", "/organizations/default"+path, spec, nil)
}

func (e *effects) delete(t *testing.T, path string) {
	t.Helper()
	e.admin.Must(t, "DELETE", "/organizations/default"+path, nil, nil)
}

type spec = map[string]any

func (e *effects) tokenRevoked(t *testing.T) {
	for range 5 {
		live, bystander := e.token(t, "buyer"), e.token(t, "buyer")
		e.warm(t, bearer(live))
		e.revoke(t, "buyer/PRODUCTION", live)
		e.next(t, "revoked by its client", 401, "900901", e.items(t, bearer(live)))
		e.warm(t, bearer(bystander))
	}
	// By its id, which the administrator has from a log.
	live := e.token(t, "buyer")
	e.warm(t, bearer(live))
	var facts struct{ Jti string }
	a := e.keys["buyer/PRODUCTION"].Post(t, "http://"+e.KeyManager+"/oauth2/introspect", map[string][]string{"token": {live}})
	if err := json.Unmarshal([]byte(a.Body), &facts); err != nil || facts.Jti == "" {
		t.Fatalf("%s %v", a.Body, err)
	}
	e.admin.Must(t, "DELETE", "/tokens/"+facts.Jti, nil, nil)
	e.next(t, "revoked by its id", 401, "900901", e.items(t, bearer(live)))
}

// revokedUnderLoad: once a revocation was answered and one call refused, none
// that begins later passes, whatever the caches are doing.
func (e *effects) revokedUnderLoad(t *testing.T) {
	for range 3 {
		live := e.token(t, "buyer")
		var dead, stop atomic.Bool
		var passed, after atomic.Int64
		var wait sync.WaitGroup
		defer wait.Wait()
		defer stop.Store(true)
		for range 6 {
			wait.Go(func() {
				for !stop.Load() {
					late := dead.Load()
					a, err := rig.Do("GET", "http://"+e.Gateway+"/shop/1.0.0/items", "Authorization", "Bearer "+live)
					switch {
					case err != nil || a.Status != 200 && a.Status != 401 && a.Status != 503: // undecided is not passed
						t.Errorf("%d %s %v", a.Status, a.Body, err)
						return
					case a.Status == 200 && late:
						after.Add(1)
					case a.Status == 200:
						passed.Add(1)
					}
				}
			})
		}
		rig.Eventually(t, "calls pass", func() error {
			if passed.Load() < 20 {
				return fmt.Errorf("%d", passed.Load())
			}
			return nil
		})
		e.revoke(t, "buyer/PRODUCTION", live)
		e.next(t, "revoked under load", 401, "900901", e.items(t, bearer(live)))
		dead.Store(true)
		for range 100 {
			if r := e.items(t, bearer(live))(); r.Status != 401 {
				t.Errorf("a revoked token: %d", r.Status)
			}
		}
		stop.Store(true)
		wait.Wait()
		if after.Load() > 0 {
			t.Errorf("%d calls with a revoked token passed", after.Load())
		}
	}
}

func (e *effects) subscription(t *testing.T) {
	live := e.token(t, "other")
	call := e.items(t, bearer(live))
	if r := call(); r.Status != 403 { // the refusal is remembered too
		t.Fatalf("not subscribed: %d", r.Status)
	}
	of := spec{"application": "other", "api": "shop/1.0.0", "tier": "Gold"}
	e.put(t, "/subscriptions/other-shop", of)
	e.next(t, "subscribed", 200, "", call)
	for range 3 {
		for _, tt := range []struct {
			state  string
			status int
			code   string
		}{{"BLOCKED", 401, "900907"}, {"UNBLOCKED", 200, ""}, {"PROD_ONLY_BLOCKED", 401, "900907"}, {"ON_HOLD", 401, "900909"}, {"UNBLOCKED", 200, ""}} {
			e.put(t, "/subscriptions/other-shop/state", spec{"state": tt.state})
			e.next(t, tt.state, tt.status, tt.code, call)
		}
	}
	of["tier"] = "Bronze"
	e.put(t, "/subscriptions/other-shop", of)
	e.tier(t, "Bronze", call)
	e.put(t, "/subscriptions/other-shop", spec{"application": "other", "api": "shop/1.0.0", "tier": "Bronze", "state": "TIER_UPDATE_PENDING", "pendingTier": "Gold"})
	e.tier(t, "Bronze", call) // until somebody says yes
	e.delete(t, "/subscriptions/other-shop")
	e.next(t, "not subscribed any more", 403, "900908", call)
}

// tier waits until the back end is told of a tier.
func (e *effects) tier(t *testing.T, tier string, call func() envoytest.Reply) {
	t.Helper()
	rig.Eventually(t, "tier "+tier, func() error {
		seen := e.allowed(t, "another tier", call)
		if got := seen.Get("x-tollgate-subscription-tier"); len(got) != 1 || got[0] != tier {
			return fmt.Errorf("tier %q", got)
		}
		return nil
	})
}

func (e *effects) application(t *testing.T) {
	live, key := e.token(t, "buyer"), e.apiKey(t, "buyer", nil).Key
	e.warm(t, bearer(live))
	e.warm(t, "apikey: "+key)
	for range 3 {
		e.put(t, "/applications/buyer", spec{"owner": "alice", "status": "REJECTED"})
		e.next(t, "application rejected", 401, "900901", e.items(t, bearer(live)))
		e.next(t, "its API key", 401, "900901", e.items(t, "apikey: "+key))
		e.put(t, "/applications/buyer", spec{"owner": "alice", "status": "APPROVED"})
		e.next(t, "application approved", 200, "", e.items(t, bearer(live)))
		e.next(t, "its API key", 200, "", e.items(t, "apikey: "+key))
	}
	e.apply(t, `
{kind: Application, organization: default, name: doomed, spec: {owner: alice}}
---
{kind: Key, organization: default, name: doomed/PRODUCTION, spec: {}}
---
{kind: Subscription, organization: default, name: doomed-shop, spec: {application: doomed, api: shop/1.0.0, tier: Gold}}
`)
	live, key = e.token(t, "doomed"), e.apiKey(t, "doomed", nil).Key
	e.warm(t, bearer(live))
	e.warm(t, "apikey: "+key)
	e.delete(t, "/applications/doomed")
	e.next(t, "application deleted", 401, "900901", e.items(t, bearer(live)))
	e.next(t, "its API key", 401, "900901", e.items(t, "apikey: "+key))
	// Another application of the same name is another application.
	e.apply(t, `
{kind: Application, organization: default, name: doomed, spec: {owner: alice}}
---
{kind: Subscription, organization: default, name: doomed-shop, spec: {application: doomed, api: shop/1.0.0, tier: Gold}}
`)
	e.next(t, "its namesake", 401, "900901", e.items(t, bearer(live)))
	e.next(t, "its namesake's API key", 401, "900901", e.items(t, "apikey: "+key))
	e.delete(t, "/applications/doomed")
}

func (e *effects) user(t *testing.T) {
	live, key := e.token(t, "buyer"), e.apiKey(t, "buyer", nil).Key
	e.warm(t, bearer(live))
	e.warm(t, "apikey: "+key)
	for range 3 {
		e.put(t, "/users/PRIMARY/alice", spec{"status": "DISABLED"})
		e.next(t, "owner disabled", 401, "900901", e.items(t, bearer(live)))
		e.next(t, "API key of a disabled owner", 401, "900901", e.items(t, "apikey: "+key))
		if a := e.keys["buyer/PRODUCTION"].Post(t, "http://"+e.Gateway+"/oauth2/token", map[string][]string{"grant_type": {"client_credentials"}}); a.Status != 401 {
			t.Errorf("a disabled owner's client: %d", a.Status)
		}
		e.put(t, "/users/PRIMARY/alice", spec{"status": "ACTIVE"})
		e.next(t, "owner enabled", 200, "", e.items(t, bearer(live)))
		e.next(t, "API key of an enabled owner", 200, "", e.items(t, "apikey: "+key))
	}
}

func (e *effects) consumerKey(t *testing.T) {
	// A secret that goes leaves its tokens.
	client := e.keys["buyer/PRODUCTION"]
	secrets := "/organizations/default/applications/buyer/keys/" + client.ID + "/secrets"
	live := e.token(t, "buyer")
	e.warm(t, bearer(live))
	var list struct{ Items []struct{ ID string } }
	e.admin.Must(t, "GET", secrets, nil, &list)
	var issued struct{ ClientSecret string }
	e.admin.Must(t, "POST", secrets, nil, &issued)
	e.admin.Must(t, "DELETE", secrets+"/"+list.Items[0].ID, nil, nil)
	if a := client.Post(t, "http://"+e.Gateway+"/oauth2/token", map[string][]string{"grant_type": {"client_credentials"}}); a.Status != 401 {
		t.Errorf("a deleted secret: %d", a.Status)
	}
	e.warm(t, bearer(live))
	client.Secret = issued.ClientSecret
	e.keys["buyer/PRODUCTION"] = client
	e.warm(t, bearer(e.token(t, "buyer")))

	// A consumer key that goes takes them along; the other key's stay.
	e.apply(t, "{kind: Key, organization: default, name: buyer/SANDBOX, spec: {}}")
	e.put(t, "/apis/shop/1.0.0", e.shop(func(s spec) { s["sandbox"] = []string{e.sandbox.URL("/")} }))
	sandbox := e.token(t, "buyer/SANDBOX")
	e.next(t, "sandbox", 200, "", e.items(t, bearer(sandbox)))
	e.delete(t, "/applications/buyer/keys/"+e.keys["buyer/SANDBOX"].ID)
	e.next(t, "consumer key deleted", 401, "900901", e.items(t, bearer(sandbox)))
	e.warm(t, bearer(live))
	e.put(t, "/apis/shop/1.0.0", e.shop(nil))
}

func (e *effects) apiKeyEnds(t *testing.T) {
	for range 3 {
		key := e.apiKey(t, "buyer", nil)
		e.warm(t, "apikey: "+key.Key)
		e.delete(t, "/applications/buyer/api-keys/"+key.ID)
		e.next(t, "API key revoked", 401, "900901", e.items(t, "apikey: "+key.Key))
	}
	// Expiry needs nobody to say so.
	ends := time.Now().Add(1500 * time.Millisecond)
	key := e.apiKey(t, "buyer", spec{"expiresAt": ends.UTC().Format(time.RFC3339Nano)})
	for {
		asked := time.Now()
		r := e.items(t, "apikey: "+key.Key)()
		if r.Status == 200 && asked.After(ends) {
			t.Errorf("accepted %v after its end", asked.Sub(ends))
		}
		if r.Status == 401 {
			if time.Now().Before(ends) {
				t.Errorf("refused %v before its end", time.Until(ends))
			}
			refusal{401, "900903", challengeExpired2}.check(t, "API key expired", r)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}
