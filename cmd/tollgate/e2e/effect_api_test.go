//go:build !short

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// shop is the API's spec, changed.
func (e *effects) shop(change func(spec)) spec {
	s := spec{}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(shopSpec, "PRODUCTION_URL", e.production.URL("/"))), &s); err != nil {
		panic(err) // it is a constant
	}
	if change != nil {
		change(s)
	}
	return s
}

func (e *effects) apiComesAndGoes(t *testing.T) {
	live := e.token(t, "buyer")
	call := func() envoytest.Reply { return e.get(t, "/fresh/1.0.0/items", bearer(live)) }
	for range 3 {
		e.next(t, "not there yet", 404, "404", call)
		e.put(t, "/apis/fresh/1.0.0", e.shop(func(s spec) { s["context"] = "/fresh" }))
		e.next(t, "there, and not subscribed", 403, "900908", call)
		e.next(t, "its open resource", 200, "", func() envoytest.Reply { return e.get(t, "/fresh/1.0.0/open") })
		e.put(t, "/subscriptions/buyer-fresh", spec{"application": "buyer", "api": "fresh/1.0.0", "tier": "Gold"})
		e.next(t, "subscribed", 200, "", call)
		e.delete(t, "/subscriptions/buyer-fresh")
		e.next(t, "not subscribed any more", 403, "900908", call)
		e.delete(t, "/apis/fresh/1.0.0")
	}
	e.next(t, "gone", 404, "404", call)
	// What replaces an API is another one: rights to the first are none to it.
	e.put(t, "/apis/fresh/1.0.0", e.shop(func(s spec) { s["context"] = "/fresh" }))
	e.put(t, "/subscriptions/buyer-fresh", spec{"application": "buyer", "api": "fresh/1.0.0", "tier": "Gold"})
	e.next(t, "subscribed", 200, "", call)
	e.delete(t, "/subscriptions/buyer-fresh")
	e.delete(t, "/apis/fresh/1.0.0")
	e.put(t, "/apis/impostor/1.0.0", e.shop(func(s spec) { s["context"] = "/fresh" }))
	e.next(t, "the context of another API", 403, "900908", call)
	e.delete(t, "/apis/impostor/1.0.0")
}

func (e *effects) apiChanges(t *testing.T) {
	live := e.token(t, "buyer", "shop:admin")
	admin := func() envoytest.Reply { return e.get(t, "/shop/1.0.0/admin", bearer(live)) }
	open := func() envoytest.Reply { return e.get(t, "/shop/1.0.0/open") }
	resources := func(list ...spec) {
		t.Helper()
		e.put(t, "/apis/shop/1.0.0", e.shop(func(s spec) {
			s["resources"] = append([]spec{{"method": "GET", "path": "/items"}}, list...)
		}))
	}
	e.next(t, "with the scope", 200, "", admin)
	for range 3 {
		resources(spec{"method": "GET", "path": "/admin", "scopes": []string{"shop:root"}})
		e.next(t, "another scope is asked for", 403, "900910", admin)
		if a := e.keys["buyer/PRODUCTION"].Post(t, "http://"+e.Gateway+"/oauth2/token",
			map[string][]string{"grant_type": {"client_credentials"}, "scope": {"shop:admin"}}); a.Status != 400 || !strings.Contains(a.Body, "invalid_scope") {
			t.Errorf("a scope that no resource names any more: %d %s", a.Status, a.Body)
		}
		resources(spec{"method": "GET", "path": "/admin", "scopes": []string{"shop:root", "shop:admin"}})
		e.next(t, "either scope will do", 200, "", admin)
		resources(spec{"method": "GET", "path": "/open"})
		e.next(t, "resource gone", 403, "900906", admin)
		e.next(t, "not open any more", 401, "900902", open)
		resources(spec{"method": "GET", "path": "/admin"}, spec{"method": "GET", "path": "/open", "authType": "None"})
		e.next(t, "no scope is asked for", 200, "", admin)
		e.next(t, "open again", 200, "", open)
	}
	// Another way in.
	e.put(t, "/apis/shop/1.0.0", e.shop(func(s spec) { s["securitySchemes"] = []string{"api_key"} }))
	e.next(t, "tokens are not taken any more", 401, "900902", e.items(t, bearer(live)))
	e.put(t, "/apis/shop/1.0.0", e.shop(nil))
	e.next(t, "and are again", 200, "", e.items(t, bearer(live)))

	// Another back end.
	moved := func(to *envoytest.Backend) {
		t.Helper()
		e.put(t, "/apis/shop/1.0.0", e.shop(func(s spec) { s["production"] = []string{to.URL("/base")} }))
		rig.Eventually(t, "the other back end is called", func() error {
			e.forget()
			if r := open(); r.Status != 200 || len(to.Seen()) != 1 || to.Seen()[0].Path != "/base/open" {
				return fmt.Errorf("%d %v", r.Status, to.Seen())
			}
			return nil
		})
	}
	moved(e.sandbox)
	moved(e.production)
	e.put(t, "/apis/shop/1.0.0", e.shop(nil))
}

// lifeCycle: what each state means for callers, and for who would subscribe.
func (e *effects) lifeCycle(t *testing.T) {
	live := e.token(t, "buyer")
	call := e.items(t, bearer(live))
	subscribe := func() rig.Answer {
		t.Helper()
		return e.admin.Call(t, "PUT", "/organizations/default/subscriptions/other-shop",
			spec{"application": "other", "api": "shop/1.0.0", "tier": "Gold"}, nil)
	}
	for _, tt := range []struct {
		state        string
		status       int
		code         string
		subscription int
	}{
		{"BLOCKED", 503, "700700", 201},
		{"PUBLISHED", 200, "", 201},
		{"DEPRECATED", 200, "", 422},
		{"PUBLISHED", 200, "", 201},
		{"BLOCKED", 503, "700700", 201},
		{"PUBLISHED", 200, "", 201},
		{"DEPRECATED", 200, "", 422},
		{"RETIRED", 404, "404", 422},
	} {
		a := e.admin.Call(t, "PUT", "/organizations/default/apis/shop/1.0.0/state", spec{"state": tt.state}, nil)
		if a.Status > 299 {
			t.Fatalf("%s: %d %s", tt.state, a.Status, a.Body)
		}
		e.next(t, tt.state, tt.status, tt.code, call)
		a = subscribe()
		if a.Status != tt.subscription {
			t.Errorf("%s: a new subscription is answered with %d %s, want %d", tt.state, a.Status, a.Body, tt.subscription)
		}
		if a.Status == http.StatusCreated {
			e.next(t, tt.state+", new subscriber", tt.status, tt.code, e.items(t, bearer(e.token(t, "other"))))
			e.delete(t, "/subscriptions/other-shop")
		}
	}
	// There is no way back.
	if a := e.admin.Call(t, "PUT", "/organizations/default/apis/shop/1.0.0/state", spec{"state": "PUBLISHED"}, nil); a.Status != 422 {
		t.Errorf("from RETIRED: %d %s", a.Status, a.Body)
	}
	e.next(t, "still retired", 404, "404", call)
}

// cacheOff: the key manager is asked on every call, for this API alone.
func (e *effects) cacheOff(t *testing.T) {
	const asked = "tollgate_authz_keymanager_calls_total"
	live := e.token(t, "buyer")
	e.warm(t, bearer(live))
	before := metric(t, e.Rig, asked)
	e.warm(t, bearer(live))
	if n := metric(t, e.Rig, asked) - before; n != 0 {
		t.Errorf("with a cache the key manager was asked %v times", n)
	}
	e.apply(t, "kind: API\norganization: default\nname: shop\nspec: "+strings.Replace(shopSpec, "{version", "{cache: \"off\", version", 1))
	e.warm(t, bearer(live))
	before = metric(t, e.Rig, asked)
	e.warm(t, bearer(live))
	e.warm(t, bearer(live))
	if n := metric(t, e.Rig, asked) - before; n != 6 {
		t.Errorf("without a cache the key manager was asked %v times for 6 calls", n)
	}
	e.revoke(t, "buyer/PRODUCTION", live)
	e.next(t, "revoked", 401, "900901", e.items(t, bearer(live)))
	e.put(t, "/apis/shop/1.0.0", e.shop(nil))
}
