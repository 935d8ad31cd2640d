//go:build !short

package xds_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy/envoytest"
)

// openRoutes are the only ones that authz is not asked about.
var openRoutes = map[string]bool{
	"POST /oauth2/token": true, "POST /oauth2/revoke": true, "POST /oauth2/introspect": true,
	"GET /.well-known/oauth-authorization-server": true,
}

// routeDump is a route as Envoy has it in use.
type routeDump struct {
	Name  string `json:"name"`
	Match struct {
		Prefix  string `json:"path_separated_prefix"`
		Path    string `json:"path"`
		Headers []struct {
			Name  string `json:"name"`
			Match struct {
				Exact string `json:"exact"`
			} `json:"string_match"`
		} `json:"headers"`
	} `json:"match"`
}

// routesInUse reads the routes from Envoy, by the name of the scope.
func routesInUse(g *gateway) map[string][]routeDump {
	g.t.Helper()
	var dump struct {
		Configs []struct {
			Scopes []struct {
				Scopes []struct {
					Name  string `json:"name"`
					Table struct {
						Hosts []struct {
							Routes []routeDump `json:"routes"`
						} `json:"virtual_hosts"`
					} `json:"route_configuration"`
				} `json:"scoped_route_configs"`
			} `json:"dynamic_scoped_route_configs"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(g.envoy.Get("/config_dump"), &dump); err != nil {
		g.t.Fatal(err)
	}
	out := map[string][]routeDump{}
	for _, c := range dump.Configs {
		for _, dynamic := range c.Scopes {
			for _, s := range dynamic.Scopes {
				out[s.Name] = nil
				for _, h := range s.Table.Hosts {
					out[s.Name] = append(out[s.Name], h.Routes...)
				}
			}
		}
	}
	return out
}

// Every route that Envoy has asks authz, but those of the compiled-in list.
func TestEveryRouteAsksAuthz(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Allow(envoytest.Deny(401, `{"code":"900902"}`))
	scopes, open, asked := routesInUse(g), 0, 0
	for _, name := range []string{"default/pets", "default/orders", "default/root", "default/oauth2", "default/.well-known"} {
		if scopes[name] == nil {
			t.Errorf("Envoy has no routes in scope %s", name)
		}
	}
	if len(scopes) != 5 {
		t.Errorf("Envoy has %d scopes, 5 were pushed", len(scopes))
	}
	for scope, routes := range scopes {
		for _, r := range routes {
			method, path := "GET", r.Match.Prefix+r.Match.Path
			for _, h := range r.Match.Headers {
				if h.Name == ":method" {
					method = h.Match.Exact
				}
			}
			t.Run("E17 "+scope+" "+r.Name, func(t *testing.T) {
				g.forget()
				res := envoytest.Raw(t, g.addr, envoytest.Request(method, path, host, "Content-Length: 0"))
				if openRoutes[method+" "+path] {
					open++
					if res.Status != 200 || len(g.authz.Calls()) != 0 || len(g.backends["keymanager"].Seen()) != 1 {
						t.Errorf("%d, authz asked %d times", res.Status, len(g.authz.Calls()))
					}
					return
				}
				asked++
				if res.Status != 401 || len(g.authz.Calls()) != 1 || envoytest.API(g.authz.Calls()[0]) == "" {
					t.Errorf("%d, authz saw %v", res.Status, g.authz.Calls())
				}
				for name, b := range g.backends {
					if len(b.Seen()) > 0 {
						t.Errorf("%s was reached", name)
					}
				}
			})
		}
	}
	if open != len(openRoutes) || asked != 3 {
		t.Errorf("%d open routes, %d others, want %d and 3", open, asked, len(openRoutes))
	}
	// The list is of exact paths and methods.
	for _, tc := range []struct{ method, path string }{
		{"GET", "/oauth2/token"}, {"POST", "/oauth2/token/"}, {"POST", "/oauth2/tokenx"}, {"POST", "/oauth2/token/x"},
		{"POST", "/oauth2"}, {"POST", "/oauth2/register"}, {"GET", "/.well-known/openid-configuration"}, {"POST", "/api/v1/apis"},
	} {
		t.Run("not open: "+tc.method+" "+tc.path, func(t *testing.T) {
			g.try(t, want{status: 404}, func() envoytest.Reply {
				return envoytest.Raw(t, g.addr, envoytest.Request(tc.method, tc.path, host, "Content-Length: 0"))
			})
		})
	}
	t.Run("an open route with a query", func(t *testing.T) {
		g.try(t, want{status: 200, at: "keymanager", path: "/oauth2/token?x=1"}, func() envoytest.Reply {
			return envoytest.Raw(t, g.addr, envoytest.Request("POST", "/oauth2/token?x=1", host, "Content-Length: 0"))
		})
	})
}

// A route that lost its settings still asks authz, which cannot tell the API and
// refuses.
func TestRouteWithoutSettingsAsksAuthz(t *testing.T) {
	g := newGateway(t, setup{rewrite: func(m proto.Message) {
		if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
			for _, h := range s.GetRouteConfiguration().GetVirtualHosts() {
				h.TypedPerFilterConfig = nil
				for _, r := range h.GetRoutes() {
					r.TypedPerFilterConfig = nil
				}
			}
		}
	}})
	g.authz.Script(func(req *authv3.CheckRequest) envoytest.Answer {
		if envoytest.API(req) != "" || len(req.GetAttributes().GetContextExtensions()) > 0 {
			t.Errorf("authz saw %v", req.GetAttributes().GetContextExtensions())
		}
		return envoytest.Answer{Response: envoytest.Undecided(503, `{"code":"900900"}`)}
	})
	for _, target := range []string{"/pets/1.0.0/x", "/.well-known/oauth-authorization-server"} {
		t.Run("E18 "+target, func(t *testing.T) {
			g.forget()
			if r := g.get(t, target); r.Status != 503 || len(g.authz.Calls()) != 1 || len(g.backends["pets"].Seen()) != 0 {
				t.Errorf("%d, authz asked %d times", r.Status, len(g.authz.Calls()))
			}
		})
	}
}

// Without an answer of authz nothing passes.
func TestAuthzFails(t *testing.T) {
	g := newGateway(t, setup{})
	const path = "/pets/1.0.0/x"
	undecided := `{"code":"900900","message":"Unclassified Authentication Failure"}`
	for _, tc := range []struct {
		name   string
		script func(call int) envoytest.Answer
		status int
		calls  int
		body   string // "" = Envoy's own
	}{
		{"hangs", func(int) envoytest.Answer { return envoytest.Answer{Hang: true} }, 503, 1, ""},
		{"resets", func(int) envoytest.Answer { return envoytest.Answer{Reset: true} }, 503, 3, ""},
		{"resets once", func(n int) envoytest.Answer { return envoytest.Answer{Reset: n == 1} }, 200, 2, ""},
		{"is unavailable", func(int) envoytest.Answer { return envoytest.Answer{Status: codes.Unavailable} }, 503, 3, ""},
		{"is unavailable once", func(n int) envoytest.Answer {
			if n == 1 {
				return envoytest.Answer{Status: codes.Unavailable}
			}
			return envoytest.Answer{}
		}, 200, 2, ""},
		{"fails inside", func(int) envoytest.Answer { return envoytest.Answer{Status: codes.Internal} }, 503, 1, ""},
		{"denies the call itself", func(int) envoytest.Answer { return envoytest.Answer{Status: codes.PermissionDenied} }, 503, 1, ""},
		{"cannot decide", func(int) envoytest.Answer {
			return envoytest.Answer{Response: envoytest.Undecided(503, undecided, "retry-after", "1")}
		}, 503, 1, undecided},
		{"cannot decide and forgets the reason", func(int) envoytest.Answer {
			r := envoytest.Undecided(503, undecided)
			r.DynamicMetadata = nil
			return envoytest.Answer{Response: r}
		}, 503, 1, ""},
	} {
		t.Run("E19 "+tc.name, func(t *testing.T) {
			calls := make(chan int, 10)
			for n := 1; n <= cap(calls); n++ {
				calls <- n
			}
			g.authz.Script(func(*authv3.CheckRequest) envoytest.Answer { return tc.script(<-calls) })
			g.forget()
			res := g.get(t, path)
			if res.Status != tc.status || len(g.authz.Calls()) != tc.calls {
				t.Errorf("%d after %d calls, want %d after %d", res.Status, len(g.authz.Calls()), tc.status, tc.calls)
			}
			if seen := len(g.backends["pets"].Seen()); (res.Status == 200) != (seen == 1) {
				t.Errorf("%d, but the back end was reached %d times", res.Status, seen)
			}
			if tc.status == 200 {
				return
			}
			// The bound is half a second; ten times that is a machine under load.
			if us, err := strconv.Atoi(fmt.Sprint(g.envoy.Logged(res)["authz_us"])); err != nil || us > 5_000_000 {
				t.Errorf("it took %d µs, %v", us, err)
			}
			switch {
			case tc.body != "":
				if res.Body != tc.body || res.Header.Get("Retry-After") != "1" {
					t.Errorf("body %s, headers %v", res.Body, res.Header)
				}
			case refusal(t, res).Code != "900900" || res.Header.Get("Content-Type") != "application/json":
				t.Errorf("body %s, headers %v", res.Body, res.Header)
			}
		})
	}
	t.Run("E19 is gone, and returns", func(t *testing.T) {
		g.authz.Answer(envoytest.Answer{})
		g.authz.Stop()
		for range 20 {
			g.forget()
			if res := g.get(t, path); res.Status != 503 || refusal(t, res).Code != "900900" || len(g.backends["pets"].Seen()) > 0 {
				t.Errorf("authz is gone: %+v", res)
			}
		}
		g.authz.Start()
		g.try(t, want{200, "pets", path, "pets", "/v1/pets/x"}, func() envoytest.Reply { return g.get(t, path) })
	})
	t.Run("E19 takes connections and says nothing, and returns", func(t *testing.T) {
		g.authz.Stop()
		mute, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", g.authz.Path())
		if err != nil {
			t.Fatal(err)
		}
		res := g.get(t, path)
		if res.Status != 503 || refusal(t, res).Code != "900900" {
			t.Errorf("authz is mute: %+v", res)
		}
		if err := mute.Close(); err != nil {
			t.Fatal(err)
		}
		g.authz.Start()
		// Connections in the backlog are reset when the mute one ends: the next
		// request is the first that can succeed.
		g.try(t, want{200, "pets", path, "pets", "/v1/pets/x"}, func() envoytest.Reply { return g.get(t, path) })
	})
	t.Run("E19 what the access log says", func(t *testing.T) {
		for _, tc := range []struct {
			answer          envoytest.Answer
			details, reason string
		}{
			{envoytest.Answer{Status: codes.Internal}, "ext_authz_error", ""},
			{envoytest.Answer{Response: envoytest.Undecided(503, undecided)}, "ext_authz_error", "undecided"},
			{envoytest.Answer{Response: envoytest.Deny(401, "")}, "ext_authz_denied", "401"},
		} {
			g.authz.Answer(tc.answer)
			l := g.envoy.Logged(g.get(t, path+"?secret=1", "X-Request-Id: of-the-client", "Authorization: Bearer secret"))
			reason, _ := l["deny_reason"].(string)
			if l["details"] != tc.details || l["flags"] != "UAEX" || l["path"] != path || l["api"] != "pets" || l["host"] != host ||
				reason != tc.reason || strings.Contains(fmt.Sprint(l), "secret") || strings.Contains(fmt.Sprint(l), "of-the-client") {
				t.Errorf("%s: %v", tc.details, l)
			}
		}
	})
	if n := g.envoy.Stat("http.edge.ext_authz.tollgate.failure_mode_allowed") + g.envoy.Stat("http.edge.ext_authz.tollgate.disabled"); n != 0 {
		t.Errorf("%d requests passed without a decision", n)
	}
}

// An answer of authz that says nothing reaches no back end.
func TestZeroAnswerChoosesNoEnvironment(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Allow(&authv3.CheckResponse{})
	res := g.try(t, want{status: 503, api: "pets", authz: "/pets/1.0.0/x"}, func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x") })
	if refusal(t, res).Code != "503" {
		t.Errorf("body %s", res.Body)
	}
}

// A restart of authz under load lets nothing pass without a decision, and a
// hand-over of its socket loses no request.
func TestAuthzRestartsUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		name    string
		restart func(*envoytest.Authz)
		only200 bool
	}{
		{"E19 killed", func(a *envoytest.Authz) { a.Stop(); a.Start() }, false},
		{"E19 handed over", func(a *envoytest.Authz) { a.HandOver() }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGateway(t, setup{})
			stop, got := make(chan struct{}), make(chan map[int]int)
			const clients = 4
			for range clients {
				go func() {
					statuses := map[int]int{}
					defer func() { got <- statuses }()
					c := envoytest.DialH2(t, g.addr)
					for {
						select {
						case <-stop:
							return
						default:
						}
						statuses[c.Get("/pets/1.0.0/x", host).Status]++
					}
				}()
			}
			for round := range 6 {
				envoytest.Eventually(t, func() error { // some requests between the restarts
					if n := len(g.backends["pets"].Seen()); n < 50*(round+1) {
						return fmt.Errorf("%d requests have passed", n)
					}
					return nil
				})
				tc.restart(g.authz)
			}
			close(stop)
			sum := map[int]int{}
			for range clients {
				for status, n := range <-got {
					sum[status] += n
				}
			}
			if sum[200] != len(g.backends["pets"].Seen()) {
				t.Errorf("%d answers of 200, %d requests at the back end", sum[200], len(g.backends["pets"].Seen()))
			}
			for status, n := range sum {
				if status != 200 && (tc.only200 || status != 503) {
					t.Errorf("%d answers of %d", n, status)
				}
			}
			t.Logf("answers: %v", sum)
		})
	}
}

// What authz says when it denies arrives as it is.
func TestDenials(t *testing.T) {
	g := newGateway(t, setup{})
	body := `{"code":"900901","message":"Invalid Credentials"}`
	for _, tc := range []struct {
		name   string
		answer *authv3.CheckResponse
		status int
		body   string
		header map[string][]string
	}{
		{"401", envoytest.Deny(401, body, "content-type", "application/json", "www-authenticate", `Bearer realm="x", error="invalid_token"`),
			401, body, map[string][]string{"Content-Type": {"application/json"}, "Www-Authenticate": {`Bearer realm="x", error="invalid_token"`}}},
		{"403", envoytest.Deny(403, body, "content-type", "application/problem+json"), 403, body,
			map[string][]string{"Content-Type": {"application/problem+json"}}},
		{"404", envoytest.Deny(404, body), 404, body, nil},
		{"429", envoytest.Deny(429, body, "retry-after", "17"), 429, body, map[string][]string{"Retry-After": {"17"}}},
		{"503", envoytest.Deny(503, `{"code":"700700"}`), 503, `{"code":"700700"}`, nil},
		{"no status", envoytest.Deny(0, body), 403, body, nil},
		{"long body is cut", envoytest.Deny(403, strings.Repeat("x", 5<<10)), 403, strings.Repeat("x", 4<<10), nil},
		{"two cookies", func() *authv3.CheckResponse {
			r := envoytest.Deny(401, body, "set-cookie", "a=1", "set-cookie", "b=2")
			return r
		}(), 401, body, map[string][]string{"Set-Cookie": {"a=1", "b=2"}}},
	} {
		t.Run("E22 "+tc.name, func(t *testing.T) {
			g.authz.Allow(tc.answer)
			res := g.try(t, want{status: tc.status, api: "pets", authz: "/pets/1.0.0/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x") })
			if res.Body != tc.body {
				t.Errorf("body %q, want %q", res.Body, tc.body)
			}
			for name, values := range tc.header {
				if fmt.Sprint(res.Header[name]) != fmt.Sprint(values) {
					t.Errorf("%s is %q, want %q", name, res.Header[name], values)
				}
			}
			if res.Header.Get("Server") != "gateway" || res.Header.Get("Grpc-Status") != "" || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("headers %v", res.Header)
			}
		})
	}
}
