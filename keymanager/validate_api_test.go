package keymanager_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
)

func goodAPI() *keymanager.API {
	return &keymanager.API{
		ID: "0f-1", Name: "Pet store", Context: "/pets", Version: "1.0.0", Hosts: []string{"localhost", "127.0.0.1", "[::1]", "api.example.com"},
		Protocol: keymanager.HTTP1, Timeout: keymanager.DefaultTimeout,
		Production: []string{"https://pets.example.com:8443/v1", "http://10.0.0.7/v1/"},
		Sandbox:    []string{"http://[2001:db8::1]:8080/v1"},
		Resources: []keymanager.Resource{
			{Method: "GET", Path: "/", AuthType: keymanager.AuthNone},
			{Method: "GET", Path: "/items/{id}", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"pets:read"}, Tier: "Gold"},
			{Method: "DELETE", Path: "/items/{id}", AuthType: keymanager.AuthApplicationUser},
			{Method: "*", Path: "/files/*", AuthType: keymanager.AuthApplication},
		},
		Security: []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeAPIKey},
		Tiers:    []keymanager.TierName{"Gold", "Unlimited"},
		CORS:     &keymanager.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"GET"}, AllowHeaders: []string{"authorization"}, MaxAge: time.Hour},
		State:    keymanager.StatePublished,
		Labels:   []string{"edge-1"},
	}
}

func grpcAPI() *keymanager.API {
	a := goodAPI()
	a.Protocol, a.Context = keymanager.GRPC, "/shop.v1.Orders"
	a.Production, a.Sandbox = []string{"https://orders.example.com:443"}, []string{"http://10.0.0.7:50051/"}
	a.Resources = []keymanager.Resource{{Method: "POST", Path: "/Get", AuthType: keymanager.AuthAny}, {Method: "*", Path: "/*", AuthType: keymanager.AuthAny}}
	return a
}

type apiCase = mutation[keymanager.API]

func TestValidateAPI(t *testing.T) {
	run(t, goodAPI, keymanager.ValidateAPI, []apiCase{
		{"a stream", func(a *keymanager.API) { a.Timeout = 0 }, nil},
		{"created without anything", func(a *keymanager.API) {
			a.State, a.Production, a.Sandbox, a.Resources, a.Hosts, a.CORS = keymanager.StateCreated, nil, nil, nil, nil, nil
		}, nil},
		{"dot in the id", func(a *keymanager.API) { a.ID = "a.b" }, []string{"/id"}},
		{"no name", func(a *keymanager.API) { a.Name = "" }, []string{"/name"}},
		{"no protocol", func(a *keymanager.API) { a.Protocol = "" }, []string{"/protocol"}},
		{"negative timeout", func(a *keymanager.API) { a.Timeout = -time.Second }, []string{"/timeout"}},
		{"timeout of more than an hour", func(a *keymanager.API) { a.Timeout = time.Hour + time.Second }, []string{"/timeout"}},
		{"timeout of a nanosecond", func(a *keymanager.API) { a.Timeout = 1 }, []string{"/timeout"}},
		{"unknown scheme", func(a *keymanager.API) { a.Security = []keymanager.SecurityScheme{"basic"} }, []string{"/security/0"}},
		{"scheme twice", func(a *keymanager.API) { a.Security = append(a.Security, a.Security[0]) }, []string{"/security/2"}},
		{"tier of nobody", func(a *keymanager.API) { a.Tiers = []keymanager.TierName{keymanager.Unauthenticated} }, []string{"/tiers/0"}},
		{"tier twice", func(a *keymanager.API) { a.Tiers = append(a.Tiers, "Gold") }, []string{"/tiers/2"}},
		{"empty tier", func(a *keymanager.API) { a.Tiers = []keymanager.TierName{""} }, []string{"/tiers/0"}},
		{"no state", func(a *keymanager.API) { a.State = "" }, []string{"/state"}},
		{"unknown state", func(a *keymanager.API) { a.State = "PROTOTYPED" }, []string{"/state"}},
		{"label in upper case", func(a *keymanager.API) { a.Labels = []string{"Edge"} }, []string{"/labels/0"}},
		{"label twice", func(a *keymanager.API) { a.Labels = []string{"a", "a"} }, []string{"/labels/1"}},
		{"cache off", func(a *keymanager.API) { a.Cache = keymanager.CacheOff }, nil},
		{"unknown cache", func(a *keymanager.API) { a.Cache = "on" }, []string{"/cache"}},
		{"published without endpoints", func(a *keymanager.API) { a.Production, a.Sandbox = nil, nil }, []string{"/production"}},
		{"blocked without endpoints", func(a *keymanager.API) {
			a.State, a.Production, a.Sandbox = keymanager.StateBlocked, nil, nil
		}, []string{"/production"}},
		{"sandbox alone", func(a *keymanager.API) { a.Production = nil }, nil},
		{"published without resources", func(a *keymanager.API) { a.Resources = nil }, []string{"/resources"}},
		{"too many resources", func(a *keymanager.API) { a.Resources = make([]keymanager.Resource, 2001) }, []string{"/resources"}},
		{"too many hosts", func(a *keymanager.API) { a.Hosts = make([]string, 51) }, []string{"/hosts"}},
		{"host twice", func(a *keymanager.API) { a.Hosts = []string{"a", "a"} }, []string{"/hosts/1"}},
	})
	if got := keymanager.ValidateAPI(&keymanager.API{}); len(got) == 0 {
		t.Error("the zero API is valid")
	}
}

func TestValidateContext(t *testing.T) {
	good := []string{"/pets", "/shop/orders", "/t/acme/a.b-c_d~e", "/Pets", "/oauth2x", "/x/api", "/.hidden", "/" + strings.Repeat("a", 199)}
	bad := []string{"", "/", "pets", "//", "/pets/", "//pets", "/a//b", "/a/../b", "/..", "/.", "/a/.", "/a b", "/a%2fb", "/a?b", "/a#b", "/a;b",
		"/a\\b", "/a*", "/{a}", "/a:b", "/\u00e9", "/a\x00", "/a\xff", "/a\n",
		"/oauth2", "/oauth2/token", "/OAuth2", "/.well-known", "/.well-known/x", "/api", "/API/v1", "/console", "/healthz", "/readyz/x",
		"/" + strings.Repeat("a", 200)}
	for _, list := range []struct {
		contexts []string
		want     []string
	}{{good, nil}, {bad, []string{"/context"}}} {
		for _, c := range list.contexts {
			a := goodAPI()
			a.Context = c
			if got := keymanager.ValidateAPI(a); fmt.Sprint(paths(got)) != fmt.Sprint(list.want) {
				t.Errorf("context %q: %v, want %v", c, got, list.want)
			}
		}
	}
}

func TestValidateVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"1": true, "v1": true, "1.0.0": true, "2024-01-31": true, "1.0.0-rc.1": true, "1_0~a": true, strings.Repeat("1", 30): true,
		"": false, ".": false, "..": false, "1/2": false, "1.0.0+a": false, " 1": false, "1%2e": false, "é": false, "1\n": false, strings.Repeat("1", 31): false,
	} {
		a := goodAPI()
		a.Version = version
		if got := keymanager.ValidateAPI(a); (len(got) == 0) != ok {
			t.Errorf("version %q: %v", version, got)
		}
	}
}

func TestValidateHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"localhost": true, "a.b-c.example": true, "xn--bcher-kva.example": true, "1a.example": true, "10.0.0.1": true, "[2001:db8::1]": true,
		"": false, "API.example": false, "a.example.": false, "a..b": false, ".a": false, "-a.b": false, "a-.b": false, "a_b.example": false,
		"a.example:443": false, "10.0.0.1:80": false, "10.0.0.256": false, "10.0.0": false, "010.0.0.1": false, "2001:db8::1": false,
		"[2001:db8::1]:80": false, "[2001:DB8::1]": false, "[10.0.0.1]": false, "[::ffff:10.0.0.1]": false, "[fe80::1%eth0]": false, "[::1": false,
		"*.example": false, "*": false, "a/b": false, "bücher.example": false, "a\x00": false,
		strings.Repeat("a", 64) + ".b": false, strings.Repeat("a.", 127): false,
	} {
		a := goodAPI()
		a.Hosts = []string{host}
		if got := keymanager.ValidateAPI(a); (len(got) == 0) != ok {
			t.Errorf("host %q: %v", host, got)
		}
	}
}

func TestValidateEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://a": true, "https://a.example/": true, "http://127.0.0.1:8080": true, "http://[::1]:8080/v1": true, "http://a/v1/x.y~z": true, "http://A.example": true,
		"": false, "a.example": false, "//a": false, "/v1": false, "ftp://a": false, "HTTP:a": false, "http://": false, "http:///v1": false, "http://:80": false,
		"http://a:": false, "http://a:0": false, "http://a:65536": false, "http://a:080": false, "http://a:b": false,
		"http://u@a": false, "http://u:secret@a": false, "http://a?": false, "http://a?x=1": false, "http://a#": false, "http://a#f": false,
		"http://a/../b": false, "http://a//b": false, "http://a/b//": false, "http://a/%2e%2e": false, "http://a/b%2Fc": false, "http://a/b c": false,
		"http://a_b": false, "http://a..b": false, "http://10.0.0.256": false, "http://[fe80::1%25eth0]": false, "http://*.a": false,
		" http://a": false, "http://a\n": false, "http://a\x00": false, "http://\xff": false, "http://a/" + strings.Repeat("a", 500): false,
	} {
		a := goodAPI()
		a.Production, a.Sandbox = []string{endpoint}, nil
		got := keymanager.ValidateAPI(a)
		if (len(got) == 0) != ok {
			t.Errorf("endpoint %q: %v", endpoint, got)
		}
		for _, f := range got {
			if f.Path != "/production/0" || strings.Contains(f.Detail, "secret") {
				t.Errorf("endpoint %q: %+v", endpoint, f)
			}
		}
	}
	run(t, goodAPI, keymanager.ValidateAPI, []apiCase{
		{"trailing slash is the same base path", func(a *keymanager.API) { a.Production = []string{"http://a/v1", "http://b/v1/"} }, nil},
		{"two base paths in production", func(a *keymanager.API) { a.Production = []string{"http://a/v1", "http://b/v2"} }, []string{"/production/1"}},
		{"another base path in sandbox", func(a *keymanager.API) { a.Sandbox = []string{"http://b"} }, []string{"/sandbox/0"}},
		{"endpoint twice", func(a *keymanager.API) { a.Production = []string{"http://a/v1", "http://a/v1"} }, []string{"/production/1"}},
		{"too many", func(a *keymanager.API) { a.Production = make([]string, 33) }, []string{"/production"}},
	})
	a := goodAPI()
	a.Sandbox = []string{"http://b/v2"}
	got := keymanager.ValidateAPI(a)
	if len(got) != 1 || !strings.Contains(got[0].Detail, "share one base path") {
		t.Errorf("the reason is not told: %v", got)
	}
}

func TestValidateGRPC(t *testing.T) {
	run(t, grpcAPI, keymanager.ValidateAPI, []apiCase{
		{"no package", func(a *keymanager.API) { a.Context = "/Greeter" }, nil},
		{"two segments", func(a *keymanager.API) { a.Context = "/a.B/Get" }, []string{"/context"}},
		{"a dash", func(a *keymanager.API) { a.Context = "/a-b.C" }, []string{"/context"}},
		{"empty part", func(a *keymanager.API) { a.Context = "/a..C" }, []string{"/context"}},
		{"no slash", func(a *keymanager.API) { a.Context = "a.B" }, []string{"/context"}},
		{"empty", func(a *keymanager.API) { a.Context = "" }, []string{"/context"}},
		{"ours", func(a *keymanager.API) { a.Context = "/api" }, []string{"/context"}},
		{"base path", func(a *keymanager.API) { a.Production = []string{"http://a/v1"} }, []string{"/production/0"}},
		{"GET", func(a *keymanager.API) { a.Resources[0].Method = "GET" }, []string{"/resources/0/method"}},
		{"two segments of a method", func(a *keymanager.API) { a.Resources[0].Path = "/Get/{id}" }, []string{"/resources/0/path"}},
		{"no version", func(a *keymanager.API) { a.Version = "" }, []string{"/version"}},
	})
}

func TestValidateTemplates(t *testing.T) {
	for path, ok := range map[string]bool{
		"/": true, "/*": true, "/a": true, "/a/{id}/b": true, "/{a}/{b}": true, "/files/*": true, "/{a}/*": true, "/a.b~c-d_e": true,
		"/a:cancel": true, "/@me": true, "/$metadata": true, "/f(x)": true, "/{pet_id.x-1}": true,
		"": false, "a": false, "*": false, "//": false, "/a/": false, "/a//b": false, "/*/a": false, "/a*": false, "/**": false, "/a/**": false,
		"/{}": false, "/{": false, "/}": false, "/{a": false, "/a}": false, "/{a}b": false, "/a{b}": false, "/{a}-{b}": false, "/{a}.json": false, "/{{a}}": false, "/{a/b}": false,
		"/{id}/{id}": false, "/{é}": false, "/{-a}": false, "/{a b}": false, "/.": false, "/..": false, "/a/../b": false, "/a%20b": false, "/a b": false, "/a?b": false, "/items;v=1": false,
		"/a#b": false, "/é": false, "/a\\b": false, "/a\x00": false, "/\xff": false, "/" + strings.Repeat("a", 500): false,
	} {
		a := goodAPI()
		a.Resources = []keymanager.Resource{{Method: "GET", Path: path, AuthType: keymanager.AuthAny}}
		if got := keymanager.ValidateAPI(a); (len(got) == 0) != ok {
			t.Errorf("path %q: %v", path, got)
		}
	}
}

func TestValidateResources(t *testing.T) {
	first := func(change func(*keymanager.Resource)) func(*keymanager.API) {
		return func(a *keymanager.API) { change(&a.Resources[1]) }
	}
	scopes := func(s ...keymanager.Scope) func(*keymanager.API) {
		return first(func(r *keymanager.Resource) { r.Scopes = s })
	}
	method := func(m string) func(*keymanager.API) {
		return first(func(r *keymanager.Resource) { r.Method = m })
	}
	run(t, goodAPI, keymanager.ValidateAPI, []apiCase{
		{"QUERY", method("QUERY"), nil},
		{"any method beside one", method("*"), nil},
		{"lower case", method("get"), []string{"/resources/1/method"}},
		{"no method", method(""), []string{"/resources/1/method"}},
		{"TRACE", method("TRACE"), []string{"/resources/1/method"}},
		{"CONNECT", method("CONNECT"), []string{"/resources/1/method"}},
		{"PROPFIND", method("PROPFIND"), []string{"/resources/1/method"}},
		{"no auth type", first(func(r *keymanager.Resource) { r.AuthType = "" }), []string{"/resources/1/authType"}},
		{"auth type in lower case", first(func(r *keymanager.Resource) { r.AuthType = "none" }), []string{"/resources/1/authType"}},
		{"tier", first(func(r *keymanager.Resource) { r.Tier = "a b" }), []string{"/resources/1/tier"}},
		{"duplicate", method("DELETE"), []string{"/resources/2/path"}},
		{"duplicate under other names", func(a *keymanager.API) {
			a.Resources = append(a.Resources, keymanager.Resource{Method: "GET", Path: "/items/{item}", AuthType: keymanager.AuthAny})
		}, []string{"/resources/4/path"}},
		{"variable beside plain", func(a *keymanager.API) {
			a.Resources = append(a.Resources, keymanager.Resource{Method: "GET", Path: "/items/mine", AuthType: keymanager.AuthAny})
		}, nil},
		{"scope grammar", scopes("a", "pets:read", "https://x.example/a?b#[c]", "~!"), nil},
		{"empty scope", scopes(""), []string{"/resources/1/scopes/0"}},
		{"space in a scope", scopes("a b"), []string{"/resources/1/scopes/0"}},
		{"quote in a scope", scopes(`a"`), []string{"/resources/1/scopes/0"}},
		{"backslash in a scope", scopes(`a\`), []string{"/resources/1/scopes/0"}},
		{"not ASCII in a scope", scopes("ü"), []string{"/resources/1/scopes/0"}},
		{"scope too long", scopes(keymanager.Scope(strings.Repeat("a", 129))), []string{"/resources/1/scopes/0"}},
		{"management scope", scopes("tollgate:admin"), []string{"/resources/1/scopes/0"}},
		{"scope twice", scopes("a", "b", "a"), []string{"/resources/1/scopes/2"}},
		{"too many scopes", scopes(make([]keymanager.Scope, 51)...), []string{"/resources/1/scopes"}},
		{"scope on an open resource", func(a *keymanager.API) { a.Resources[0].Scopes = []keymanager.Scope{"a"} }, []string{"/resources/0/scopes"}},
	})
	for _, m := range keymanager.Methods() {
		if !keymanager.KnownMethod(m) {
			t.Errorf("%s is in Methods, but not known", m)
		}
	}
}

func TestValidateCORS(t *testing.T) {
	cors := func(change func(*keymanager.CORS)) func(*keymanager.API) {
		return func(a *keymanager.API) { change(a.CORS) }
	}
	origins := func(s ...string) func(*keymanager.API) {
		return cors(func(c *keymanager.CORS) { c.AllowOrigins = s })
	}
	at := []string{"/cors/allowOrigins/0"}
	run(t, goodAPI, keymanager.ValidateAPI, []apiCase{
		{"none", func(a *keymanager.API) { a.CORS = nil }, nil},
		{"exact origins with credentials", cors(func(c *keymanager.CORS) {
			c.AllowOrigins, c.AllowCredentials = []string{"https://app.example.com", "http://localhost:3000", "http://[::1]:3000"}, true
		}), nil},
		{"no origin", origins(), []string{"/cors/allowOrigins"}},
		{"star not alone", origins("*", "https://a.example"), at},
		{"star with credentials", cors(func(c *keymanager.CORS) { c.AllowCredentials = true }), at},
		{"null", origins("null"), at},
		{"no scheme", origins("a.example"), at},
		{"path", origins("https://a.example/"), at},
		{"default port", origins("https://a.example:443"), at},
		{"upper case", origins("https://A.example"), at},
		{"wildcard host", origins("https://*.a.example"), at},
		{"user", origins("https://u@a.example"), at},
		{"twice", origins("https://a.example", "https://a.example"), []string{"/cors/allowOrigins/1"}},
		{"too many", origins(make([]string, 51)...), []string{"/cors/allowOrigins"}},
		{"method", cors(func(c *keymanager.CORS) { c.AllowMethods = []string{"*", "get"} }), []string{"/cors/allowMethods/1"}},
		{"headers", cors(func(c *keymanager.CORS) {
			c.AllowHeaders, c.ExposeHeaders = []string{"*", "x y"}, []string{""}
		}), []string{"/cors/allowHeaders/1", "/cors/exposeHeaders/0"}},
		{"star methods with credentials", cors(func(c *keymanager.CORS) {
			c.AllowOrigins, c.AllowMethods, c.AllowCredentials = []string{"https://a.example"}, []string{"*"}, true
		}), []string{"/cors/allowMethods/0"}},
		{"negative age", cors(func(c *keymanager.CORS) { c.MaxAge = -time.Second }), []string{"/cors/maxAge"}},
		{"long age", cors(func(c *keymanager.CORS) { c.MaxAge = 25 * time.Hour }), []string{"/cors/maxAge"}},
	})
}

func TestValidTransition(t *testing.T) {
	states := []keymanager.LifecycleState{keymanager.StateCreated, keymanager.StatePublished, keymanager.StateBlocked, keymanager.StateDeprecated, keymanager.StateRetired}
	allowed := map[string]bool{
		"CREATED>PUBLISHED": true, "PUBLISHED>CREATED": true, "PUBLISHED>BLOCKED": true, "PUBLISHED>DEPRECATED": true,
		"BLOCKED>PUBLISHED": true, "BLOCKED>DEPRECATED": true,
		"DEPRECATED>PUBLISHED": true, "DEPRECATED>BLOCKED": true, "DEPRECATED>RETIRED": true,
	}
	for _, from := range states {
		for _, to := range states {
			want := from == to || allowed[string(from+">"+to)]
			if got := keymanager.ValidTransition(from, to); got != want {
				t.Errorf("%s to %s = %v, want %v", from, to, got, want)
			}
		}
		if !keymanager.ValidTransition("", from) {
			t.Errorf("a new API may not be %s", from)
		}
		if keymanager.ValidTransition(from, "") || keymanager.ValidTransition(from, "PROTOTYPED") {
			t.Errorf("%s may go to an unknown state", from)
		}
		for _, next := range keymanager.NextStates(from) {
			if !keymanager.ValidTransition(from, next) {
				t.Errorf("NextStates(%s) names %s", from, next)
			}
		}
	}
	if keymanager.ValidTransition("", "") || keymanager.ValidTransition("X", "PUBLISHED") {
		t.Error("unknown states are accepted")
	}
}
