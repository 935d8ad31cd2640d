//go:build !short

package xds_test

import (
	"encoding/json"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
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
