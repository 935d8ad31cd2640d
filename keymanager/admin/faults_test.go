//go:build faults

package admin_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tollgate/keymanager/admin"
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
	tok := w.token()
	var asked []string
	first := func(path, what string) string {
		return path + "/" + w.want(200, system, "GET", path, "").text("items/0/"+what)
	}
	key := func(below string) func() string {
		return func() string { return first(inDefault+"/applications/till/keys", "consumerKey") + below }
	}
	steps := []struct {
		name, method string
		path         func() string
		body         string
	}{
		{"organization made", "PUT", at("/organizations/new"), `{}`},
		{"organization changed", "PUT", at("/organizations/new"), `{"displayName":"New"}`},
		{"organization shown", "GET", at("/organizations/new"), ""},
		{"organizations", "GET", at("/organizations"), ""},
		{"organization removed", "DELETE", at("/organizations/new"), ""},
		{"tier made", "PUT", at(inDefault + "/tiers/Iron"), `{"requests":1,"unit":"second"}`},
		{"tier changed", "PUT", at(inDefault + "/tiers/Iron"), `{"requests":2,"unit":"second"}`},
		{"tiers", "GET", at(inDefault + "/tiers"), ""},
		{"tier shown", "GET", at(inDefault + "/tiers/Iron"), ""},
		{"tier removed", "DELETE", at(inDefault + "/tiers/Iron"), ""},
		{"user made", "PUT", at(inDefault + "/users/PRIMARY/bob"), `{}`},
		{"user disabled", "PUT", at(inDefault + "/users/PRIMARY/bob"), `{"status":"DISABLED"}`},
		{"users", "GET", at(inDefault + "/users"), ""},
		{"user shown", "GET", at(inDefault + "/users/PRIMARY/bob"), ""},
		{"user removed", "DELETE", at(inDefault + "/users/PRIMARY/bob"), ""},
		{"API made", "PUT", at(inDefault + "/apis/cats/1.0.0"), `{"context":"/cats","production":["http://127.0.0.1:9001"],"resources":[{"method":"*","path":"/*"}],"state":"PUBLISHED","tiers":["Gold"]}`},
		{"API changed", "PUT", at(inDefault + "/apis/cats/1.0.0"), `{"context":"/cats2","production":["http://127.0.0.1:9001"],"resources":[{"method":"*","path":"/*"}],"state":"PUBLISHED","tiers":["Gold"]}`},
		{"APIs", "GET", at(inDefault + "/apis"), ""},
		{"API shown", "GET", at(inDefault + "/apis/cats/1.0.0"), ""},
		{"API blocked", "PUT", at(inDefault + "/apis/cats/1.0.0/state"), `{"state":"BLOCKED"}`},
		{"API imported", "POST", at(inDefault + "/apis:import"), petsDocument},
		{"API removed", "DELETE", at(inDefault + "/apis/cats/1.0.0"), ""},
		{"application made", "PUT", at(inDefault + "/applications/till"), `{"owner":"alice"}`},
		{"application changed", "PUT", at(inDefault + "/applications/till"), `{"owner":"alice","attributes":{"a":"b"}}`},
		{"applications", "GET", at(inDefault + "/applications"), ""},
		{"application shown", "GET", at(inDefault + "/applications/till"), ""},
		{"key made", "POST", at(inDefault + "/applications/till/keys"), `{"keyType":"PRODUCTION"}`},
		{"keys", "GET", at(inDefault + "/applications/till/keys"), ""},
		{"key shown", "GET", key(""), ""},
		{"key changed", "PUT", key(""), `{"tokenLifetime":"30m"}`},
		{"secret made", "POST", key("/secrets"), ""},
		{"secrets", "GET", key("/secrets"), ""},
		{"secret removed", "DELETE", func() string { return first(key("/secrets")(), "id") }, ""},
		{"API key made", "POST", at(inDefault + "/applications/till/api-keys"), `{"name":"ci","keyType":"SANDBOX"}`},
		{"API keys", "GET", at(inDefault + "/applications/till/api-keys"), ""},
		{"API key shown", "GET", func() string { return first(inDefault+"/applications/till/api-keys", "id") }, ""},
		{"API key revoked", "DELETE", func() string { return first(inDefault+"/applications/till/api-keys", "id") }, ""},
		{"subscription made", "PUT", at(inDefault + "/subscriptions/s"), `{"application":"till","api":"pets/1.0.0","tier":"Gold"}`},
		{"subscription changed", "PUT", at(inDefault + "/subscriptions/s"), `{"application":"till","api":"pets/1.0.0","tier":"Silver","state":"BLOCKED"}`},
		{"subscriptions", "GET", at(inDefault + "/subscriptions"), ""},
		{"subscription shown", "GET", at(inDefault + "/subscriptions/s"), ""},
		{"subscription unblocked", "PUT", at(inDefault + "/subscriptions/s/state"), `{"state":"UNBLOCKED"}`},
		{"subscription removed", "DELETE", at(inDefault + "/subscriptions/s"), ""},
		{"key removed", "DELETE", key(""), ""},
		{"application removed", "DELETE", at(inDefault + "/applications/till"), ""},
		{"apply", "POST", at("/apply"), `{"documents":[{"kind":"User","name":"eve","spec":{}},{"kind":"Application","name":"eves","spec":{"owner":"eve"}},
			{"kind":"Key","name":"eves/PRODUCTION","spec":{}},{"kind":"Subscription","name":"eves","spec":{"application":"eves","api":"pets/1.0.0","tier":"Gold"}}]}`},
		{"audit", "GET", at(inDefault + "/audit"), ""},
		{"token revoked", "DELETE", at("/tokens/" + tok.ID.String()), ""},
		{"usage", "GET", at(inDefault + "/usage"), ""},
		{"usage of all", "GET", at("/usage"), ""},
		{"usage records", "GET", at(inDefault + "/usage/records"), ""},
	}
	for _, step := range steps {
		t.Run("F12 error at every statement: "+step.name, func(t *testing.T) {
			w := w.in(t)
			path := step.path()
			asked = append(asked, step.method+" "+admin.Prefix+path)
			var headers []string
			if strings.HasPrefix(strings.TrimSpace(step.body), "openapi:") {
				headers = []string{"Content-Type", "application/yaml"}
			}
			before := w.dump()
			for n := 1; ; n++ {
				failing.Arm(n, false)
				got := w.do(system, step.method, path, step.body, headers...)
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
	for _, r := range w.routes() {
		template := regexp.MustCompile("^" + r.method + " " + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(r.path), "[^/]+") + "$")
		switch {
		case r.id == "list-gateways", r.id == "validate": // they ask no store here
		case !slices.ContainsFunc(asked, template.MatchString):
			t.Errorf("%s (%s %s) is not tried", r.id, r.method, r.path)
		}
	}
}

func at(path string) func() string { return func() string { return path } }
