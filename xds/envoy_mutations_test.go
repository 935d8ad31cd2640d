//go:build !short

package xds_test

import (
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// mutated is an OK with something more.
func mutated(change func(*authv3.OkHttpResponse)) *authv3.CheckResponse {
	r := envoytest.OK()
	change(r.GetOkResponse())
	return r
}

func sets(pairs ...string) *authv3.CheckResponse { return envoytest.OK(pairs...) }

func removes(names ...string) *authv3.CheckResponse {
	return mutated(func(r *authv3.OkHttpResponse) { r.HeadersToRemove = names })
}

// A change of the request that authz has no right to is a mistake in authz:
// the request ends there.
func TestForbiddenMutations(t *testing.T) {
	g := newGateway(t, setup{})
	const stat = "http.edge.ext_authz.tollgate.invalid"
	for name, answer := range map[string]*authv3.CheckResponse{
		"the path":                      sets(":path", "/orders/2.0/x"),
		"the method":                    sets(":method", "DELETE"),
		"the authority":                 sets(":authority", "evil.example.com"),
		"the host":                      sets("host", "evil.example.com"),
		"an x-envoy header":             sets("x-envoy-original-path", "/orders/2.0/x"),
		"any other header":              sets("x-other", "1"),
		"the content type":              sets("content-type", "text/plain"),
		"a name like ours":              sets("x-tollgates", "1"),
		"removal of the host":           removes("host"),
		"removal of another header":     removes("x-other"),
		"removal of a header not there": removes("x-not-there"),
		"carriage return":               sets(envoy.HeaderUser, "a\rb"),
		"a new line":                    sets(envoy.HeaderUser, "a\r\nx-other: 1"),
		"NUL":                           sets(envoy.HeaderUser, "a\x00b"),
		"a name with a space":           sets("x-tollgate- x", "1"),
		"one good and one bad":          sets(envoy.HeaderUser, "alice", "x-other", "1"),
		"a query parameter not URL-safe": mutated(func(r *authv3.OkHttpResponse) {
			r.QueryParametersToSet = []*corev3.QueryParameter{{Key: "a b", Value: "c"}}
		}),
		"a response header with new line": mutated(func(r *authv3.OkHttpResponse) { r.ResponseHeadersToAdd = envoytest.Headers("x-a", "a\nb") }),
	} {
		t.Run("E13 "+name, func(t *testing.T) {
			before := g.envoy.Stat(stat)
			g.authz.Allow(answer)
			res := g.try(t, want{status: 500, api: "pets", authz: "/pets/1.0.0/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", "x-other: 1") })
			if p := refusal(t, res); p.Code != "500" {
				t.Errorf("body %s", res.Body)
			}
			if n := g.envoy.Stat(stat) - before; n != 1 {
				t.Errorf("%s grew by %d, want 1", stat, n)
			}
		})
	}
}

// Whatever authz may set, the route that was matched stays.
func TestMutationsDoNotChangeTheRoute(t *testing.T) {
	g := newGateway(t, setup{})
	for _, header := range []string{envoy.HeaderContext, envoy.HeaderAPI, "x-tollgate-original-path"} {
		t.Run("E13 "+header, func(t *testing.T) {
			g.authz.Allow(sets(header, "/orders/2.0/x"))
			g.try(t, want{200, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x") })
			if g.reached(t, "pets").Get(envoy.HeaderContext) != nil {
				t.Error("the back end saw the context header")
			}
		})
	}
}

// What authz may change arrives exactly so.
func TestMutationsArrive(t *testing.T) {
	g := newGateway(t, setup{})
	type headers map[string][]string // nil = must not be there
	appended := func(pairs ...string) *authv3.CheckResponse {
		return mutated(func(r *authv3.OkHttpResponse) {
			for i := 0; i+1 < len(pairs); i += 2 {
				r.Headers = append(r.Headers,
					envoytest.Header(pairs[i], pairs[i+1], corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
			}
		})
	}
	query := func(names ...string) *authv3.CheckResponse {
		return mutated(func(r *authv3.OkHttpResponse) { r.QueryParametersToRemove = names })
	}
	const path = "/pets/1.0.0/x"
	for _, tc := range []struct {
		name   string
		answer *authv3.CheckResponse
		query  string
		lines  []string
		sees   headers
		path   string // "" = unchanged
	}{
		{name: "identity", answer: sets(envoy.HeaderUser, "PRIMARY/alice", envoy.HeaderScopes, "read write", envoy.HeaderApplication, "ünï"),
			sees: headers{envoy.HeaderUser: {"PRIMARY/alice"}, envoy.HeaderScopes: {"read write"}, envoy.HeaderApplication: {"ünï"}}},
		{name: "overwrites what the client sent", answer: sets("authorization", "Bearer internal"),
			lines: []string{"Authorization: Bearer client"}, sees: headers{"authorization": {"Bearer internal"}}},
		{name: "overwrites every line", answer: sets("apikey", "c"),
			lines: []string{"apikey: a", "apikey: b"}, sees: headers{"apikey": {"c"}}},
		// To append is the zero value of the action, and the zero value overwrites:
		// who has several values joins them.
		{name: "the last of several values", answer: appended(envoy.HeaderScopes, "read", envoy.HeaderScopes, "write"),
			sees: headers{envoy.HeaderScopes: {"write"}}},
		{name: "removes credentials", answer: removes("authorization", "apikey"),
			lines: []string{"Authorization: Bearer a", "apikey: b", "apikey: c", "x-other: d"},
			sees:  headers{"authorization": nil, "apikey": nil, "x-other": {"d"}}},
		{name: "removes what is not there", answer: removes("authorization", "apikey")},
		{name: "removes what it sets", answer: mutated(func(r *authv3.OkHttpResponse) {
			r.Headers = append(r.Headers, envoytest.Headers("authorization", "Bearer internal")...)
			r.HeadersToRemove = []string{"authorization"}
		}), lines: []string{"Authorization: Bearer client"}, sees: headers{"authorization": nil}},
		{name: "removes a query parameter, and sorts the rest", answer: query("apikey"), query: "?b=2&apikey=K&a=1", path: "?a=1&b=2"},
		{name: "removes every repetition", answer: query("apikey"), query: "?apikey=K&x=1&apikey=L", path: "?x=1"},
		{name: "by its raw name only", answer: query("apikey"), query: "?ApiKey=K&api%6Bey=L&x=1;apikey=M",
			path: "?ApiKey=K&api%6Bey=L&x=1;apikey=M"},
		{name: "the last one goes with its question mark", answer: query("apikey"), query: "?apikey=K", path: ""},
		{name: "without a query", answer: query("apikey")},
	} {
		t.Run("E21 "+tc.name, func(t *testing.T) {
			g.authz.Allow(tc.answer)
			seen := tc.path
			if tc.path == "" && len(tc.answer.GetOkResponse().GetQueryParametersToRemove()) == 0 {
				seen = tc.query
			}
			g.try(t, want{200, "pets", path + tc.query, "pets", "/v1/pets/x" + seen},
				func() envoytest.Reply { return g.get(t, path+tc.query, tc.lines...) })
			got := g.reached(t, "pets")
			for name, values := range tc.sees {
				if !slices.Equal(got.Get(name), values) {
					t.Errorf("the back end saw %s %q, want %q", name, got.Get(name), values)
				}
			}
		})
	}
	t.Run("E21 response headers", func(t *testing.T) {
		g.backends["pets"].Respond(func(envoytest.Seen) envoytest.Response {
			return envoytest.Response{Headers: []envoytest.Field{
				{Name: "x-ratelimit-remaining", Value: "7"}, {Name: "server", Value: "back end"}, {Name: "x-powered-by", Value: "it"}}}
		})
		g.authz.Allow(mutated(func(r *authv3.OkHttpResponse) {
			r.ResponseHeadersToAdd = envoytest.Headers("x-ratelimit-remaining", "41", "set-cookie", "a=1")
		}))
		res := g.get(t, path)
		if !slices.Equal(res.Header["X-Ratelimit-Remaining"], []string{"41"}) || res.Header.Get("Set-Cookie") != "a=1" {
			t.Errorf("headers %v", res.Header)
		}
		if res.Header.Get("Server") != "gateway" || res.Header.Get("X-Powered-By") != "" {
			t.Errorf("headers %v tell of the back end", res.Header)
		}
	})
}
