//go:build faults

package admin_test

import (
	"path/filepath"
	"testing"

	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// TestFaultAdmin has each statement of each kind of management request fail in
// turn: it is answered with 503, has changed nothing, and works when it is sent
// again.
func TestFaultAdmin(t *testing.T) {
	var failing storetest.Failing
	open := openStore
	t.Cleanup(func() { openStore = open })
	openStore = func(t *testing.T) (store.Store, error) {
		return sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlstore.Options{Wrap: failing.Wrap})
	}
	w := newWorld(t)
	w.furnish()
	first := func(path, what string) string {
		return path + "/" + w.want(200, system, "GET", path, "").text("items/0/"+what)
	}
	key := func(below string) func() string {
		return func() string { return first(inDefault+"/applications/till/keys", "consumerKey") + below }
	}
	for _, step := range []struct {
		name, method string
		path         func() string
		body         string
	}{
		{"organization made", "PUT", at("/organizations/new"), `{}`},
		{"organization changed", "PUT", at("/organizations/new"), `{"displayName":"New"}`},
		{"organization shown", "GET", at("/organizations/new"), ""},
		{"organization removed", "DELETE", at("/organizations/new"), ""},
		{"tier made", "PUT", at(inDefault + "/tiers/Iron"), `{"requests":1,"unit":"second"}`},
		{"tier changed", "PUT", at(inDefault + "/tiers/Iron"), `{"requests":2,"unit":"second"}`},
		{"tiers", "GET", at(inDefault + "/tiers"), ""},
		{"tier removed", "DELETE", at(inDefault + "/tiers/Iron"), ""},
		{"user made", "PUT", at(inDefault + "/users/PRIMARY/bob"), `{}`},
		{"user disabled", "PUT", at(inDefault + "/users/PRIMARY/bob"), `{"status":"DISABLED"}`},
		{"user removed", "DELETE", at(inDefault + "/users/PRIMARY/bob"), ""},
		{"API made", "PUT", at(inDefault + "/apis/cats/1.0.0"), `{"context":"/cats","production":["http://127.0.0.1:9001"],"resources":[{"method":"*","path":"/*"}],"state":"PUBLISHED","tiers":["Gold"]}`},
		{"API changed", "PUT", at(inDefault + "/apis/cats/1.0.0"), `{"context":"/cats2","production":["http://127.0.0.1:9001"],"resources":[{"method":"*","path":"/*"}],"state":"PUBLISHED","tiers":["Gold"]}`},
		{"APIs", "GET", at(inDefault + "/apis"), ""},
		{"API removed", "DELETE", at(inDefault + "/apis/cats/1.0.0"), ""},
		{"application made", "PUT", at(inDefault + "/applications/till"), `{"owner":"alice"}`},
		{"application changed", "PUT", at(inDefault + "/applications/till"), `{"owner":"alice","attributes":{"a":"b"}}`},
		{"key made", "POST", at(inDefault + "/applications/till/keys"), `{"keyType":"PRODUCTION"}`},
		{"keys", "GET", at(inDefault + "/applications/till/keys"), ""},
		{"secret made", "POST", key("/secrets"), ""},
		{"secret removed", "DELETE", func() string { return first(key("/secrets")(), "id") }, ""},
		{"API key made", "POST", at(inDefault + "/applications/till/api-keys"), `{"name":"ci","keyType":"SANDBOX"}`},
		{"API key revoked", "DELETE", func() string { return first(inDefault+"/applications/till/api-keys", "id") }, ""},
		{"subscription made", "PUT", at(inDefault + "/subscriptions/s"), `{"application":"till","api":"pets/1.0.0","tier":"Gold"}`},
		{"subscription changed", "PUT", at(inDefault + "/subscriptions/s"), `{"application":"till","api":"pets/1.0.0","tier":"Silver","state":"BLOCKED"}`},
		{"subscription removed", "DELETE", at(inDefault + "/subscriptions/s"), ""},
		{"key removed", "DELETE", key(""), ""},
		{"application removed", "DELETE", at(inDefault + "/applications/till"), ""},
		{"apply", "POST", at("/apply"), `{"documents":[{"kind":"User","name":"eve","spec":{}},{"kind":"Application","name":"eves","spec":{"owner":"eve"}},
			{"kind":"Key","name":"eves/PRODUCTION","spec":{}},{"kind":"Subscription","name":"eves","spec":{"application":"eves","api":"pets/1.0.0","tier":"Gold"}}]}`},
		{"audit", "GET", at(inDefault + "/audit"), ""},
		{"usage", "GET", at(inDefault + "/usage"), ""},
		{"usage records", "GET", at(inDefault + "/usage/records"), ""},
	} {
		t.Run("F12 error at every statement: "+step.name, func(t *testing.T) {
			w := w.in(t)
			path := step.path()
			before := w.dump()
			for n := 1; ; n++ {
				failing.Arm(n, false)
				got := w.do(system, step.method, path, step.body)
				if !failing.Disarm() {
					if got.status < 200 || got.status > 299 || n == 1 {
						t.Errorf("without a fault: %d %s, %d statements", got.status, got.body, n-1)
					}
					break
				}
				if got.status != 503 || got.header.Get("Retry-After") == "" {
					t.Errorf("statement %d: %d %s, want 503 with Retry-After", n, got.status, got.body)
				}
				if after := w.dump(); after != before {
					t.Fatalf("statement %d: something was written", n)
				}
			}
		})
	}
}

func at(path string) func() string { return func() string { return path } }
