//go:build !short

package xds_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// onlyOne is how authz takes credentials: one header line, without a comma.
// Anything else is refused.
func onlyOne(req *authv3.CheckRequest) envoytest.Answer {
	var all []string
	for _, name := range []string{envoy.HeaderAuthorization, envoy.HeaderAPIKey} {
		all = append(all, envoytest.HeaderValues(req, name)...)
	}
	odd := func(r rune) bool { return r == ',' || r > 0x7e }
	if len(all) != 1 || all[0] == "" || strings.ContainsFunc(all[0], odd) {
		return envoytest.Answer{Response: envoytest.Deny(401, `{"code":"900901"}`)}
	}
	return envoytest.Answer{Response: envoytest.OK()}
}

// Authz sees every credential that a client sends, so that it can refuse more
// than one.
func TestAuthzSeesEveryCredential(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Script(onlyOne)
	for _, tc := range []struct {
		name   string
		lines  []string
		header string
		values []string
		status int
	}{
		{"one token", []string{"Authorization: Bearer a"}, "authorization", []string{"Bearer a"}, 200},
		{"two tokens are joined", []string{"Authorization: Bearer a", "authorization: Bearer b"},
			"authorization", []string{"Bearer a,Bearer b"}, 401},
		{"two keys stay apart", []string{"apikey: a", "ApiKey: b"}, "apikey", []string{"a", "b"}, 401},
		{"the same key twice", []string{"apikey: a", "apikey: a"}, "apikey", []string{"a", "a"}, 401},
		{"a folded line", []string{"Authorization: Bearer\r\n a"}, "authorization", []string{"Bearer a"}, 200},
		{"a folded line with a comma", []string{"Authorization: Bearer a,\r\n Bearer b"}, "authorization",
			[]string{"Bearer a, Bearer b"}, 401},
		{"an empty token", []string{"Authorization:"}, "authorization", []string{""}, 401},
		{"an empty key", []string{"apikey: "}, "apikey", []string{""}, 401},
		{"a tab", []string{"apikey: a\tb"}, "apikey", []string{"a\tb"}, 200},
	} {
		t.Run("E8 "+tc.name, func(t *testing.T) {
			w := want{status: tc.status, api: "pets", authz: "/pets/1.0.0/x"}
			if tc.status == 200 {
				w.at, w.path = "pets", "/v1/pets/x"
			}
			g.try(t, w, func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", tc.lines...) })
			for _, c := range g.authz.Calls() {
				if got := envoytest.HeaderValues(c, tc.header); !slices.Equal(got, tc.values) {
					t.Errorf("authz saw %q, want %q", got, tc.values)
				}
			}
		})
	}
	t.Run("E8 over HTTP/2", func(t *testing.T) {
		g.try(t, want{status: 401, api: "pets", authz: "/pets/1.0.0/x"}, func() envoytest.Reply {
			return envoytest.DialH2(t, g.addr).Get("/pets/1.0.0/x", host, "authorization", "Bearer a", "authorization", "Bearer b")
		})
	})
}

// What only Envoy and authz may say does not come from a client.
func TestClientsCannotForgeHeaders(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Allow(envoytest.OK(envoy.HeaderUser, "alice"))
	forged := []string{
		"x-tollgate-user", "X-TOLLGATE-TIER", "x-tollgate-context", "x-tollgate-env", "x-tollgate-anything",
		"x-jwt-assertion", "x-envoy-original-path", "x-envoy-internal", "x-envoy-retry-on", "x-envoy-max-retries",
		"x-envoy-attempt-count", "x-envoy-auth-partial-body", "x-envoy-peer-metadata", "x-envoy-foo",
		"x-envoy-external-address", "x-envoy-upstream-rq-timeout-ms", "x-envoy-decorator-operation",
		"x-forwarded-uri", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server",
		"x-forwarded-client-cert", "forwarded", "x-real-ip", "x-original-url", "x-original-uri", "x-rewrite-url",
		"x-http-method-override", "x-http-method", "x-method-override", "proxy-authorization", "x-ext-authz-check-result",
	}
	call := map[string]func(t *testing.T, name string) envoytest.Reply{
		"h1": func(t *testing.T, name string) envoytest.Reply {
			return g.get(t, "/pets/1.0.0/x", name+": forged", name+": twice")
		},
		"h2": func(t *testing.T, name string) envoytest.Reply {
			return envoytest.DialH2(t, g.addr).Get("/pets/1.0.0/x", host, strings.ToLower(name), "forged")
		},
	}
	for _, name := range forged {
		for version, do := range call {
			t.Run("E9 "+version+" "+name, func(t *testing.T) {
				g.try(t, want{200, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"},
					func() envoytest.Reply { return do(t, name) })
				for _, c := range g.authz.Calls() {
					for _, h := range c.GetAttributes().GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
						if strings.Contains(string(h.GetRawValue()), "forged") {
							t.Errorf("authz saw %s: %s", h.GetKey(), h.GetRawValue())
						}
					}
				}
				seen := g.reached(t, "pets")
				for _, f := range seen.Headers {
					if strings.Contains(f.Value, "forged") || strings.Contains(f.Value, "twice") {
						t.Errorf("the back end saw %s: %s", f.Name, f.Value)
					}
				}
				if got := seen.Get(envoy.HeaderUser); !slices.Equal(got, []string{"alice"}) {
					t.Errorf("the back end saw the users %q", got)
				}
			})
		}
	}
	for _, name := range []string{"x_tollgate_user", "X_Tollgate-User", "a_b"} {
		t.Run("E9 "+name, func(t *testing.T) {
			g.try(t, want{status: 400}, func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", name+": forged") })
		})
	}
	t.Run("E9 what is Envoy's own does not reach the back end", func(t *testing.T) {
		g.try(t, want{200, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"},
			func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x") })
		for _, f := range g.reached(t, "pets").Headers {
			if strings.HasPrefix(f.Name, "x-envoy-") && f.Name != "x-envoy-external-address" ||
				f.Name == envoy.HeaderContext || f.Name == envoy.HeaderEnv {
				t.Errorf("the back end saw %s: %s", f.Name, f.Value)
			}
		}
	})
}

// Bytes that are not text are a credential like any other: refused by authz,
// never passed because something failed on them.
func TestBytesOutsideASCII(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Script(onlyOne)
	for _, value := range []string{"\x80", "\xff", "a\xc0\xafb", "\xf0\x28\x8c\x28", strings.Repeat("\xfe", 500)} {
		for _, line := range []string{"apikey: ", "Authorization: Bearer "} {
			t.Run(fmt.Sprintf("E10 %s%.8q", line, value), func(t *testing.T) {
				g.authz.Script(func(req *authv3.CheckRequest) envoytest.Answer {
					name := strings.ToLower(strings.TrimSuffix(strings.Fields(line)[0], ":"))
					if got := envoytest.HeaderValues(req, name); len(got) != 1 || !strings.HasSuffix(got[0], value) {
						t.Errorf("authz saw %q", got)
					}
					return envoytest.Answer{Response: envoytest.Deny(401, "")}
				})
				g.try(t, want{status: 401, api: "pets", authz: "/pets/1.0.0/x"},
					func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", line+value) })
			})
		}
		t.Run(fmt.Sprintf("E10 in a header that authz does not see %.8q", value), func(t *testing.T) {
			g.authz.Script(onlyOne)
			g.try(t, want{200, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", "apikey: a", "x-other: "+value) })
			if got := g.reached(t, "pets").Get("x-other"); !slices.Equal(got, []string{value}) {
				t.Errorf("the back end saw %q", got)
			}
		})
	}
}

// A header that the client names in Connection is gone before authz decides:
// what authz decided about is what the back end gets.
func TestConnectionHeaderRemovesNothingBehindAuthz(t *testing.T) {
	g := newGateway(t, setup{})
	ok := want{200, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"}
	for _, header := range []string{"authorization", "apikey"} {
		t.Run("E11 "+header, func(t *testing.T) {
			g.authz.Script(onlyOne)
			g.try(t, want{status: 401, api: "pets", authz: "/pets/1.0.0/x"}, func() envoytest.Reply {
				return g.get(t, "/pets/1.0.0/x", header+": a", "Connection: "+header+", x-jwt-assertion")
			})
		})
	}
	t.Run("E11 identity headers arrive", func(t *testing.T) {
		g.authz.Allow(envoytest.OK(envoy.HeaderUser, "alice", "x-jwt-assertion", "jwt"))
		g.try(t, ok, func() envoytest.Reply {
			return g.get(t, "/pets/1.0.0/x", "Connection: x-jwt-assertion, x-tollgate-user, authorization", "Authorization: Bearer a")
		})
		seen := g.reached(t, "pets")
		if !slices.Equal(seen.Get(envoy.HeaderUser), []string{"alice"}) || !slices.Equal(seen.Get("x-jwt-assertion"), []string{"jwt"}) ||
			seen.Get("authorization") != nil {
			t.Errorf("the back end saw %v", seen.Headers)
		}
	})
}
