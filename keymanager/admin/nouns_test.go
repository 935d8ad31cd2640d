package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"tollgate/keymanager"
)

// The life of every kind: made, shown, listed, replaced, left alone, deleted.
func TestManagedLife(t *testing.T) {
	for _, tt := range []struct {
		kind, path, list, name string
		spec, full             string // what is sent, and what is shown
		other                  string // another spec
	}{
		{"Organization", "/organizations/acme", "/organizations", "acme",
			`{}`, `{"displayName":"acme"}`, `{"displayName":"Acme Ltd"}`},
		{"Tier", inDefault + "/tiers/Tiny", inDefault + "/tiers", "Tiny",
			`{"requests":5}`, `{"displayName":"Tiny","requests":5,"unit":"minute","stopOnQuota":true}`,
			`{"requests":5,"unit":"hour","stopOnQuota":false}`},
		{"User", inDefault + "/users/PRIMARY/bob", inDefault + "/users", "bob",
			`{}`, `{"status":"ACTIVE"}`, `{"email":"bob@example.com","status":"DISABLED"}`},
		{"User", inDefault + "/users/FOO.COM/bob", inDefault + "/users", "FOO.COM/bob",
			`{}`, `{"status":"ACTIVE"}`, `{"email":"bob@example.com"}`},
		{"API", inDefault + "/apis/orders/2.0.0", inDefault + "/apis", "orders",
			`{"context":"/orders"}`,
			`{"version":"2.0.0","context":"/orders","protocol":"http1","timeout":"30s","tiers":["Unlimited"],"state":"CREATED"}`,
			`{"context":"/orders","version":"2.0.0","timeout":"0","securitySchemes":["api_key_query"],"cors":{"allowOrigins":["https://a.example.com"],"maxAge":"10m"},
			"production":["https://b.example.com/base"],"sandbox":["https://s.example.com/base"],"resources":[{"method":"POST","path":"/x","authType":"None","tier":"Bronze"}],"state":"PUBLISHED","cache":"off","labels":["eu"],"hosts":["h.example.com"],
			"maxDuration":"2h","idleTimeout":"1m","maxStale":"0","backend":{"retry":{"attempts":2,"on":["connect-failure","503"],"anyMethod":true,"backOff":"50ms"},
			"healthCheck":{"path":"/healthz","interval":"5s","timeout":"500ms","unhealthy":4,"healthy":1},"outliers":{"consecutive5xx":7,"interval":"3s","ejectionTime":"20s","maxEjectionPercent":30},
			"limits":{"connections":10,"pending":20,"requests":30,"retries":4},"tls":{"ca":"partners","clientCertificate":"gateway","serverName":"b.example.com"},"sandboxTls":{"ca":"ours"}}}`},
		{"API", inDefault + "/apis/feed/1", inDefault + "/apis", "feed",
			`{"context":"/feed","protocol":"websocket","securitySchemes":["oauth2_websocket"]}`,
			`{"version":"1","context":"/feed","protocol":"websocket","timeout":"0s","securitySchemes":["oauth2_websocket"],"tiers":["Unlimited"],"state":"CREATED"}`,
			`{"context":"/feed","protocol":"http2","timeout":"10s","maxStale":"90s","backend":{"healthCheck":{},"retry":{"attempts":1,"perTryTimeout":"4s"}}}`},
		{"Application", inDefault + "/applications/till", inDefault + "/applications", "till",
			`{"owner":"alice"}`, `{"owner":"alice","tier":"Unlimited","tokenType":"OAUTH","status":"APPROVED"}`,
			`{"owner":"PRIMARY/alice","tier":"Gold","attributes":{"cost-centre":"7/8"},"status":"REJECTED","scopes":["tollgate:publish"]}`},
		{"Subscription", inDefault + "/subscriptions/sub", inDefault + "/subscriptions", "sub",
			`{"application":"cash","api":{"name":"pets","version":"1.0.0"},"tier":"Silver"}`,
			`{"application":"cash","api":"pets/1.0.0","tier":"Silver","state":"UNBLOCKED"}`,
			`{"application":"cash","api":"pets/1.0.0","tier":"Gold","state":"TIER_UPDATE_PENDING","pendingTier":"Silver"}`},
	} {
		t.Run(tt.path, func(t *testing.T) {
			w := newWorld(t)
			w.furnish()
			w.put(system, inDefault+"/applications/cash", `{"owner":"alice"}`)
			before := w.want(200, system, "GET", tt.list, "").at("total").(float64)
			w.want(404, system, "GET", tt.path, "")

			made := w.want(201, system, "PUT", tt.path, tt.spec)
			if got := made.header.Get("Location"); got != "/api/v1"+tt.path {
				t.Errorf("Location %q", got)
			}
			if got := made.header.Get("ETag"); got != `"1"` {
				t.Errorf("ETag %q", got)
			}
			shown := w.want(200, system, "GET", tt.path, "")
			equalJSON(t, "shown", shown.at("spec"), tt.full)
			if shown.text("kind") != tt.kind || shown.text("name") != tt.name || shown.text("id") == "" ||
				shown.text("organization") == "" || shown.text("createdAt") == "" {
				t.Errorf("shown: %s", shown.body)
			}
			if string(shown.body) != string(made.body) {
				t.Errorf("made and shown differ:\n%s\n%s", made.body, shown.body)
			}
			list := w.want(200, system, "GET", tt.list, "")
			if list.at("total").(float64) != before+1 {
				t.Errorf("total %v, want %v", list.at("total"), before+1)
			}

			dump := w.dump()
			for _, same := range []string{tt.spec, tt.full} {
				if again := w.want(200, system, "PUT", tt.path, same); again.header.Get("ETag") != `"1"` {
					t.Errorf("ETag after the same again: %q", again.header.Get("ETag"))
				}
			}
			if w.dump() != dump {
				t.Error("the same again has changed something")
			}
			changed := w.want(200, system, "PUT", tt.path, tt.other)
			if changed.header.Get("ETag") != `"2"` || changed.text("id") != made.text("id") || changed.text("createdAt") != made.text("createdAt") {
				t.Errorf("changed: %v %s", changed.header, changed.body)
			}
			spec := encode(t, changed.at("spec"))
			w.want(200, system, "PUT", tt.path, spec)
			if got := w.want(200, system, "GET", tt.path, ""); got.header.Get("ETag") != `"2"` || encode(t, got.at("spec")) != spec {
				t.Errorf("what is shown cannot be put: %s", got.body)
			}

			if gone := w.want(204, system, "DELETE", tt.path, ""); len(gone.body) != 0 {
				t.Errorf("204 with a body: %s", gone.body)
			}
			w.want(404, system, "GET", tt.path, "")
			w.want(404, system, "DELETE", tt.path, "")
			org := strings.Split(tt.path, "/")[2]
			trail := w.want(200, system, "GET", "/organizations/"+org+"/audit?limit=3", "")
			if trail.text("items/0/action") != "delete" || trail.text("items/1/action") != "update" || trail.text("items/2/action") != "create" && tt.kind != "Organization" ||
				trail.text("items/0/kind") != tt.kind || trail.at("items/0/after") != nil || trail.at("items/0/before") == nil {
				t.Errorf("trail: %s", trail.body)
			}
		})
	}
}

func TestKeysAndSecrets(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	made := w.want(201, subscriber, "POST", shop+"/keys", `{"keyType":"PRODUCTION","tokenLifetime":"10m"}`)
	key := made.text("consumerKey")
	secret := made.text("secret/clientSecret")
	if key == "" || !strings.HasPrefix(secret, "tgcs_") || made.text("name") != "shop/PRODUCTION" || made.text("spec/tokenLifetime") != "10m0s" {
		t.Fatalf("made: %s", made.body)
	}
	self := shop + "/keys/" + key
	if got := made.header.Get("Location"); got != "/api/v1"+self {
		t.Errorf("Location %q", got)
	}
	if got := made.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	w.want(409, subscriber, "POST", shop+"/keys", `{"keyType":"PRODUCTION"}`)
	w.want(201, subscriber, "POST", shop+"/keys", `{"keyType":"SANDBOX"}`)
	if list := w.want(200, subscriber, "GET", shop+"/keys?limit=1", ""); list.at("total") != 2.0 || list.at("items/1") != nil {
		t.Errorf("list: %s", list.body)
	}
	if got := w.want(200, subscriber, "PUT", self, `{}`); got.at("spec/tokenLifetime") != nil || got.at("secret") != nil {
		t.Errorf("put: %s", got.body)
	}

	stored, err := w.store.Secrets(t.Context(), keymanager.ConsumerKey(key))
	if err != nil || len(stored) != 1 || !w.peppers.Match(stored[0].Digest, secret) || !strings.HasSuffix(secret, stored[0].Last4) {
		t.Errorf("stored: %v %v", stored, err)
	}
	first := w.want(200, subscriber, "GET", self+"/secrets", "").text("items/0/id")
	w.want(409, subscriber, "DELETE", self+"/secrets/"+first, "")
	for range 4 {
		w.now = w.now.Add(1e9)
		w.want(201, subscriber, "POST", self+"/secrets", "")
	}
	w.want(409, subscriber, "POST", self+"/secrets", "")
	w.want(204, subscriber, "DELETE", self+"/secrets/"+first, "")
	w.want(404, subscriber, "DELETE", self+"/secrets/"+first, "")
	w.want(422, subscriber, "POST", self+"/secrets", `{"expiresAt":"2026-05-01T12:00:04Z"}`)
	w.now = w.now.Add(1e9)
	w.want(201, subscriber, "POST", self+"/secrets", `{"expiresAt":"2026-05-01T12:01:00Z"}`)
	w.now = w.now.Add(60e9)
	w.want(201, subscriber, "POST", self+"/secrets", `{}`) // the expired one made room
	list := w.want(200, subscriber, "GET", self+"/secrets", "")
	if list.at("total") != 5.0 || strings.Contains(string(list.body), "tgcs_") || list.text("items/0/last4") == "" {
		t.Errorf("secrets: %s", list.body)
	}
	for _, e := range []string{"tgcs_", secret} {
		if trail := w.want(200, system, "GET", inDefault+"/audit", ""); strings.Contains(string(trail.body), e) {
			t.Error("a secret is in the audit trail")
		}
	}
	w.want(204, subscriber, "DELETE", self, "")
	w.want(404, subscriber, "GET", self, "")
	w.want(404, subscriber, "GET", self+"/secrets", "")
}

func TestAPIKeys(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	path := shop + "/api-keys"
	made := w.want(201, subscriber, "POST", path, `{"name":"ci","keyType":"SANDBOX","networks":["192.0.2.7","10.0.0.0/8"],"referers":["https://a.example.com/*"],"expiresAt":"2026-06-01T00:00:00+02:00"}`)
	if !strings.HasPrefix(made.text("key"), "tgak_") || made.text("status") != "ACTIVE" || made.text("networks/0") != "192.0.2.7/32" || made.text("expiresAt") != "2026-05-31T22:00:00Z" {
		t.Fatalf("made: %s", made.body)
	}
	w.want(409, subscriber, "POST", path, `{"name":"ci","keyType":"SANDBOX"}`)
	w.want(201, subscriber, "POST", path, `{"name":"prod","keyType":"PRODUCTION"}`)
	self := path + "/" + made.text("id")
	if got := made.header.Get("Location"); got != "/api/v1"+self {
		t.Errorf("Location %q", got)
	}
	if got := w.want(200, subscriber, "GET", self, ""); got.at("key") != nil || got.text("name") != "ci" {
		t.Errorf("shown: %s", got.body)
	}
	w.now = w.now.AddDate(0, 2, 0)
	if got := w.want(200, subscriber, "GET", self, ""); got.text("status") != "EXPIRED" {
		t.Errorf("expired: %s", got.body)
	}
	w.want(204, subscriber, "DELETE", self, "")
	dump := w.dump()
	w.want(204, subscriber, "DELETE", self, "")
	if w.dump() != dump {
		t.Error("revoking twice has changed something")
	}
	list := w.want(200, subscriber, "GET", path, "")
	if list.at("total") != 2.0 || list.text("items/0/status") != "REVOKED" || list.text("items/1/status") != "ACTIVE" || strings.Contains(string(list.body), "tgak_") {
		t.Errorf("list: %s", list.body)
	}
	// Not by way of another application.
	w.put(subscriber, inDefault+"/applications/till", `{"owner":"alice"}`)
	w.want(404, subscriber, "GET", inDefault+"/applications/till/api-keys/"+made.text("id"), "")
	w.want(404, subscriber, "DELETE", inDefault+"/applications/till/api-keys/"+made.text("id"), "")
}

func TestStates(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	sub := inDefault + "/subscriptions/shop-pets"
	state := func(caller, path, s string, want int) {
		t.Helper()
		w.want(want, caller, http.MethodPut, path+"/state", `{"state":"`+s+`"}`)
	}
	state(publisher, sub, "BLOCKED", 200)
	state(publisher, sub, "PROD_ONLY_BLOCKED", 200)
	state(publisher, sub, "UNKNOWN", 422)
	state(publisher, sub, "", 422)
	state(publisher, sub+"x", "BLOCKED", 404)
	state(publisher, sub, "UNBLOCKED", 200)
	state(publisher, sub, "BLOCKED", 200)
	// What stays out of a spec stays as it is; a subscriber cannot unblock.
	if got := w.put(subscriber, sub, `{"application":"shop","api":"pets/1.0.0","tier":"Silver"}`); got.text("spec/state") != "BLOCKED" || got.text("spec/tier") != "Silver" {
		t.Errorf("after the put: %s", got.body)
	}
	w.want(403, subscriber, "PUT", sub, `{"application":"shop","api":"pets/1.0.0","tier":"Silver","state":"UNBLOCKED"}`)
	w.want(403, subscriber, "DELETE", sub, "") // nor by making it anew
	state(publisher, sub, "UNBLOCKED", 200)
	w.want(204, subscriber, "DELETE", sub, "")
	w.put(subscriber, sub, `{"application":"shop","api":"pets/1.0.0","tier":"Silver"}`)

	state(publisher, pets, "CREATED", 200)
	state(publisher, pets, "RETIRED", 422)
	state(publisher, pets, "PUBLISHED", 200)
	state(publisher, pets, "DEPRECATED", 200)
	w.put(subscriber, inDefault+"/applications/till", `{"owner":"alice"}`)
	refused := w.want(422, subscriber, "PUT", inDefault+"/subscriptions/new", `{"application":"till","api":"pets/1.0.0","tier":"Gold"}`)
	if refused.text("errors/0/pointer") != "/api" {
		t.Errorf("refused: %s", refused.body)
	}
	w.put(subscriber, sub, `{"application":"shop","api":"pets/1.0.0","tier":"Gold"}`) // the old one goes on
	w.want(409, publisher, "DELETE", pets, "")
	// Tiers can change under a subscription, and it can still be blocked.
	w.put(publisher, pets, strings.Replace(petsSpec, `["Gold","Silver"]`, `["Bronze"]`, 1))
	state(publisher, sub, "ON_HOLD", 200)
}
