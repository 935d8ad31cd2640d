//go:build !short

package e2e

import (
	"strings"
	"testing"

	"tollgate/envoy/envoytest"
)

// paths: RS20, a path means one thing for Envoy, authz and the back end, or is
// refused.
func paths(t *testing.T, pl *place) {
	live := pl.token(t, "buyer")
	// What Envoy puts right arrives so at the back end.
	for target, path := range map[string]string{
		"/shop/1.0.0/items":                        "/items",
		"/shop/1.0.0/items?x=%2F..%2f&y=;/../open": "/items?x=%2F..%2f&y=;/../open",
		"//shop//1.0.0//items":                     "/items",
		"/shop/1.0.0/./items":                      "/items",
		"/shop/1.0.0/open/../items":                "/items",
		"/stock/1.0.0/../../shop/1.0.0/items":      "/items",
		"/shop/1.0.0/%69tems":                      "/items",
		"/%73hop/1.0.0/items":                      "/items",
		"/shop/1.0.0/items/a%20b":                  "/items/a%20b",
		"/shop/1.0.0/items/%C3%BC":                 "/items/%C3%BC",
		"/shop/1.0.0/items/%41%7e":                 "/items/A~",
		"/shop/1.0.0/any/":                         "/any/",
		"/shop/1.0.0/any/a/b":                      "/any/a/b",
		"/shop/1.0.0/x/%2e%2e/items":               "/items",
		"/shop/1.0.0/..;/1.0.0/items":              "/items",
	} {
		for name, ask := range map[string]func() envoytest.Reply{
			"HTTP/1": func() envoytest.Reply { return pl.get(t, target, bearer(live)) },
			"HTTP/2": func() envoytest.Reply {
				return envoytest.DialH2(t, pl.Gateway).Get(target, "localhost", "authorization", "Bearer "+live)
			},
		} {
			if seen := pl.allowed(t, name+" "+target, ask); seen.Path != path {
				t.Errorf("%s %s: the back end got %q, want %q", name, target, seen.Path, path)
			}
		}
	}
	pl.forget()
	badPath := refusal{400, "400", ""}
	for target, want := range map[string]refusal{
		// What only authz can judge.
		"/shop/1.0.0/items/%252F":            noMatch,
		"/shop/1.0.0/items/%252e%252e/open":  noMatch,
		"/shop/1.0.0/items/%25%32%46":        noMatch,
		"/shop/1.0.0/items/%0a":              noMatch,
		"/shop/1.0.0/items/a%0d%0ab":         noMatch,
		"/shop/1.0.0/items/%7f":              noMatch,
		"/shop/1.0.0/items/%zz":              noMatch,
		"/shop/1.0.0/items/%":                noMatch,
		"/shop/1.0.0/items/%4":               noMatch,
		"/shop/1.0.0/items/%u002f":           noMatch,
		"/shop/1.0.0/items/%C0%AF":           noMatch,
		"/shop/1.0.0/items/%ff":              noMatch,
		"/shop/1.0.0/items;x=1":              noMatch,
		"/shop/1.0.0/items/a;x=1":            noMatch,
		"/shop/1.0.0/items/;/open":           noMatch,
		"/shop/1.0.0/open;/../items/;a":      noMatch,
		"/shop/1.0.0/any/a;b":                noMatch,
		"/shop/1.0.0/any/%25%2532e":          noMatch,
		"/shop/1.0.0/open/":                  noMatch,
		"/shop/1.0.0/items/":                 noMatch,
		"/shop/1.0.0/open//":                 noMatch,
		"/shop/1.0.0/":                       noMatch,
		"/shop/1.0.0?x":                      noMatch,
		"/shop/1.0.0/OPEN":                   noMatch,
		"/shop/1.0.0/open/x":                 noMatch,
		"/shop/1.0.0/openx":                  noMatch,
		"/shop/1.0.0/items/1/2":              noMatch,
		"/shop/1.0.0/%6fpen%20":              noMatch,
		"/stock/1.0.0/../../shop/1.0.0/none": noMatch,
		// What Envoy refuses.
		"/shop/1.0.0/items%2F1":   badPath,
		"/shop/1.0.0/items%5c1":   badPath,
		"/shop%2f1.0.0/items":     badPath,
		"/shop/1.0.0/items/%00":   badPath,
		"/shop/1.0.0/items#x":     badPath,
		"/shop/1.0.0/open#/items": badPath,
		// What is no API.
		"/shop/1.0.0x/items":            notFound,
		"/shop/1.0.00/items":            notFound,
		"/SHOP/1.0.0/items":             notFound,
		"/shop;/1.0.0/items":            notFound,
		"/shop/1.0.0;a/items":           notFound,
		"/shop":                         notFound,
		"/":                             notFound,
		"/?/shop/1.0.0/items":           notFound,
		"//localhost/shop/1.0.0/items":  notFound,
		"/shop/1.0.0/../../../etc":      notFound,
		"/oauth2/../shop/2.0.0/items":   notFound,
		"/.well-known/../x/1.0.0/items": notFound,
	} {
		want.check(t, target, pl.get(t, target, bearer(live)))
		if want == badPath && strings.Contains(target, "#") {
			continue // a client of HTTP/2 sends none
		}
		want.check(t, "HTTP/2 "+target, envoytest.DialH2(t, pl.Gateway).Get(target, "localhost", "authorization", "Bearer "+live))
	}
	// Bytes that no path has.
	for _, target := range []string{"/shop/1.0.0/items/\x80", "/shop/1.0.0/items/ü", "/shop/1.0.0/items/\x7f", "/shop/1.0.0/items/\x01",
		"/shop/1.0.0/items/a b", "/shop/1.0.0/items/" + strings.Repeat("a", 64<<10)} {
		if r := pl.get(t, target, bearer(live)); r.Status != 400 && r.Status != 403 && r.Status != 431 && r.Status != 0 {
			t.Errorf("%.60q: %d %s", target, r.Status, r.Body)
		}
	}
	if pl.reached() != 0 {
		t.Errorf("back ends were reached %d times", pl.reached())
	}
}

// methods: what is no method of ours is refused, by Envoy or by authz.
func methods(t *testing.T, pl *place) {
	live := pl.token(t, "buyer")
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"} {
		seen := pl.allowed(t, method, func() envoytest.Reply {
			return envoytest.Raw(t, pl.Gateway, envoytest.Request(method, "/shop/1.0.0/any/x", "localhost", bearer(live), "Content-Length: 0"))
		})
		if seen.Method != method {
			t.Errorf("the back end got %s, want %s", seen.Method, method)
		}
	}
	pl.forget()
	for _, method := range []string{"TRACE", "PROPFIND", "MKCOL", "LOCK", "PURGE", "LINK", "CONNECT", "FOO", "get", "Get", "PRI", "GETX", "*"} {
		r := envoytest.Raw(t, pl.Gateway, envoytest.Request(method, "/shop/1.0.0/any/x", "localhost", bearer(live)))
		if r.Status == 403 {
			noMatch.check(t, method, r)
		} else if r.Status != 400 && r.Status != 404 && r.Status != 405 {
			t.Errorf("%s: %d %s", method, r.Status, r.Body)
		}
		r = envoytest.DialH2(t, pl.Gateway).Do(envoytest.H2Request{
			Fields: envoytest.Pseudo(method, "/shop/1.0.0/any/x", "localhost", "authorization", "Bearer "+live)})
		if r.Status == 403 {
			noMatch.check(t, "HTTP/2 "+method, r)
		} else if r.Status >= 500 || r.Status >= 200 && r.Status < 400 {
			t.Errorf("HTTP/2 %s: %d %s", method, r.Status, r.Body)
		}
	}
	// A method of another resource, and one that names a way around.
	noMatch.check(t, "POST at an open resource", envoytest.Raw(t, pl.Gateway, envoytest.Request("POST", "/shop/1.0.0/open", "localhost", "Content-Length: 0")))
	noMatch.check(t, "overridden", envoytest.Raw(t, pl.Gateway, envoytest.Request("POST", "/shop/1.0.0/open", "localhost",
		"X-Http-Method-Override: GET", "Content-Length: 0")))
	if pl.reached() != 0 {
		t.Errorf("back ends were reached %d times", pl.reached())
	}
}
