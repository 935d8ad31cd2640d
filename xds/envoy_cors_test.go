//go:build !short

package xds_test

import (
	"testing"
	"time"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// A preflight is answered by Envoy, without a credential; every other answer to
// a page of an allowed origin can be read by it, refusals too.
func TestCORS(t *testing.T) {
	const portal, foreign = "https://portal.example.com", "https://evil.example.com"
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		shared := func(change func(*keymanager.CORS)) func(*keymanager.API) {
			return func(a *keymanager.API) {
				a.Production = []string{b["orders"].URL("/x")}
				a.CORS = &keymanager.CORS{
					AllowOrigins: []string{portal}, AllowMethods: []string{"GET", "POST"},
					AllowHeaders: []string{"authorization", "content-type"}, ExposeHeaders: []string{"x-request-id"},
					MaxAge: 10 * time.Minute, AllowCredentials: true,
				}
				change(a.CORS)
			}
		}
		return []*keymanager.API{
			api("shared", "/shared", "1", shared(func(*keymanager.CORS) {})),
			api("anyone", "/anyone", "1", shared(func(c *keymanager.CORS) {
				c.AllowOrigins, c.AllowCredentials = []string{"*"}, false
			})),
		}
	}})
	const path = "/shared/1/x"
	preflight := func(target string, lines ...string) func() envoytest.Reply {
		return func() envoytest.Reply {
			return envoytest.Raw(t, g.addr, envoytest.Request("OPTIONS", target, host, lines...))
		}
	}
	origin := func(o string) string { return "Origin: " + o }
	const asks = "Access-Control-Request-Method: DELETE"
	allow := func(r envoytest.Reply) string { return r.Header.Get("Access-Control-Allow-Origin") }

	t.Run("E30 preflight of an allowed origin", func(t *testing.T) {
		r := g.try(t, want{status: 200}, preflight(path, origin(portal), asks))
		for name, value := range map[string]string{
			"Access-Control-Allow-Origin": portal, "Access-Control-Allow-Methods": "GET, POST",
			"Access-Control-Allow-Headers": "authorization, content-type", "Access-Control-Max-Age": "600",
			"Access-Control-Allow-Credentials": "true",
		} {
			if r.Header.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, r.Header.Get(name), value)
			}
		}
	})
	for name, lines := range map[string][]string{
		"foreign":                 {origin(foreign), asks},
		"null":                    {origin("null"), asks},
		"two origins":             {origin(portal), origin(foreign), asks},
		"a prefix of the allowed": {origin(portal + ".evil.example.com"), asks},
		"another scheme":          {origin("http://portal.example.com"), asks},
	} {
		t.Run("E30 preflight of an origin that is "+name, func(t *testing.T) {
			if r := g.try(t, want{status: 200}, preflight(path, lines...)); allow(r) != "" {
				t.Errorf("it allows %q", allow(r))
			}
		})
	}
	t.Run("E30 preflight of any origin", func(t *testing.T) {
		r := g.try(t, want{status: 200}, preflight("/anyone/1/x", origin(foreign), asks))
		if a := allow(r); a != "*" && a != foreign || r.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("headers %v", r.Header)
		}
	})
	for name, tc := range map[string]struct {
		target, api string
		lines       []string
	}{
		"OPTIONS that asks for no method": {path, "shared", []string{origin(portal)}},
		"OPTIONS without an origin":       {path, "shared", []string{asks}},
		"OPTIONS with an empty origin":    {path, "shared", []string{origin(""), asks}},
		"preflight of an API without":     {"/orders/2.0/x", "orders", []string{origin(portal), asks}},
	} {
		t.Run("E30 "+name+" asks authz", func(t *testing.T) {
			g.authz.Allow(envoytest.Deny(401, `{"code":"900902"}`))
			g.try(t, want{status: 401, api: tc.api, authz: tc.target}, preflight(tc.target, tc.lines...))
		})
	}
	t.Run("E30 answers can be read by the page", func(t *testing.T) {
		for _, tc := range []struct {
			answer envoytest.Answer
			status int
		}{
			{envoytest.Answer{}, 200},
			{envoytest.Answer{Response: envoytest.Deny(401, "{}")}, 401},
			{envoytest.Answer{Response: envoytest.Deny(403, "{}", "access-control-allow-origin", foreign)}, 403},
			{envoytest.Answer{Response: envoytest.Undecided(503, "{}")}, 503},
			{envoytest.Answer{Response: sets("x-other", "1")}, 500},
		} {
			g.authz.Answer(tc.answer)
			for o, want := range map[string]string{portal: portal, foreign: ""} {
				r := g.get(t, path, origin(o))
				if tc.answer.Response != nil && tc.status == 403 && o == foreign {
					continue // what authz itself says to a foreign origin is its own affair
				}
				if r.Status != tc.status || allow(r) != want {
					t.Errorf("%d to %s: %d, allows %q", tc.status, o, r.Status, allow(r))
				}
			}
		}
		g.authz.Stop()
		if r := g.get(t, path, origin(portal)); r.Status != 503 || allow(r) != portal {
			t.Errorf("without authz: %d, allows %q", r.Status, allow(r))
		}
		if r := g.get(t, "/nothing", origin(portal)); r.Status != 404 || allow(r) != "" {
			t.Errorf("without a route: %d, allows %q", r.Status, allow(r))
		}
	})
}
