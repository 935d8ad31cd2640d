//go:build !short

package xds_test

import (
	"fmt"
	"strings"
	"testing"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// A path has one spelling for the router, for authz and for the back end, and
// the API that authz decides about is the API that is called.
func TestOnePathForEverybody(t *testing.T) {
	g := newGateway(t, setup{})
	ok := func(api, authz, at, path string) want { return want{200, api, authz, at, path} }
	pets := func(rest string) want { return ok("pets", "/pets/1.0.0"+rest, "pets", "/v1/pets"+rest) }
	orders := func(rest string) want { return ok("orders", "/orders/2.0"+rest, "orders", "/orders/2.0"+rest) }
	root := func(rest, seen string) want { return ok("root", "/root/2"+rest, "root", seen) }
	notFound, bad := want{status: 404}, want{status: 400}
	for _, tc := range []struct {
		target string
		want
	}{
		// E1 dot segments
		{"/pets/1.0.0/x", pets("/x")},
		{"/pets/1.0.0/../../orders/2.0/x", orders("/x")},
		{"/pets/1.0.0/./x", pets("/x")},
		{"/pets/1.0.0/a/..", pets("/")},
		{"/pets/1.0.0/a/.", pets("/a/")},
		{"/pets/1.0.0/%2e%2e/%2E%2E/orders/2.0/x", orders("/x")},
		{"/pets/1.0.0/.%2e/../orders/2.0/x", orders("/x")},
		{`/pets/1.0.0\..\..\orders\2.0\x`, orders("/x")},
		{"/pets/1.0.0/../../..", notFound},
		// E2 empty segments
		{"//pets//1.0.0//x", pets("/x")},
		{"///pets/1.0.0/x", pets("/x")},
		{"//evil.example/pets/1.0.0", notFound},
		{"//evil.example/../pets/1.0.0/x", pets("/x")},
		{"/pets/1.0.0/x/..//..//o", pets("/o")},
		{"/a/../pets/1.0.0/x", pets("/x")},
		// E3 escapes
		{"/pets/1.0.0/a%2Fb", bad},
		{"/pets/1.0.0/a%2fb", bad},
		{"/pets/1.0.0/a%5Cb", bad},
		{"/pets/1.0.0/a%5cb", bad},
		{"/pets%2f1.0.0/a", bad},
		{"/pets/1.0.0/a%00", bad},
		{"/pets/1.0.0/%41%7e", pets("/A~")},
		{"/pets/1.0.0/%25%32%46", pets("/%252F")}, // one pass: "%25" stays
		{"/%70ets/1.0.0/x", pets("/x")},
		{"/pets/1.0.0/x?q=%2F", pets("/x?q=%2F")},
		{"/pets/1.0.0/x?q=../../orders/2.0", pets("/x?q=../../orders/2.0")},
		// E4 fragments
		{"/pets/1.0.0/a#b", bad},
		{"/pets/1.0.0/%23b", pets("/%23b")},
		// E5 path parameters
		{"/pets/1.0.0/..;/..;/orders/2.0", orders("")},
		{"/pets/1.0.0/.;/a", pets("/a")},
		{"/pets/1.0.0/a;/..;b", pets("/")},
		{"/pets/1.0.0;x=1/a", notFound},
		{"/pets;/1.0.0/a", notFound},
		// E7 whole segments, and how the path is rewritten
		{"/pets/1.0.0", pets("")},
		{"/pets/1.0.0/", pets("/")},
		{"/pets/1.0.0?x", pets("?x")},
		{"/pets/1.0.0x", notFound},
		{"/pets/1.0.00", notFound},
		{"/pets/1.0.0.", notFound},
		{"/PETS/1.0.0", notFound},
		{"/pets/1.0", notFound},
		{"/pets", notFound},
		{"/", notFound},
		{"/?/pets/1.0.0", notFound},
		{"/root/2", root("", "/")},
		{"/root/2/", root("/", "/")},
		{"/root/2/x", root("/x", "/x")},
		{"/root/2?q", root("?q", "/?q")},
		{"/root/2/x/root/2/y", root("/x/root/2/y", "/x/root/2/y")},
	} {
		t.Run(tc.target, func(t *testing.T) {
			g.try(t, tc.want, func() envoytest.Reply { return g.get(t, tc.target) })
			// The same over HTTP/2, where the path is a field and no library has
			// looked at it.
			g.try(t, tc.want, func() envoytest.Reply { return envoytest.DialH2(t, g.addr).Get(tc.target, host) })
		})
	}
}

// Paths that Envoy cannot judge reach authz as they are; when it refuses them,
// no back end sees them.
func TestOddPathsReachAuthzUnchanged(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Allow(envoytest.Deny(403, `{"code":"900906"}`))
	for _, rest := range []string{
		"/%252F", "/%0a", "/%zz", "/%", "/%u002f", "/%C0%AF", "/%7f", "/a;x=1", "/..a", "/%3b",
	} {
		t.Run("E3 "+rest, func(t *testing.T) {
			path := "/pets/1.0.0" + rest
			w := want{status: 403, api: "pets", authz: path}
			g.try(t, w, func() envoytest.Reply { return g.get(t, path) })
			g.try(t, w, func() envoytest.Reply { return envoytest.DialH2(t, g.addr).Get(path, host) })
		})
	}
}

func TestEscapedSlashesAreCounted(t *testing.T) {
	g := newGateway(t, setup{})
	const stat = "http.edge.downstream_rq_failed_path_normalization"
	before := g.envoy.Stat(stat)
	for _, target := range []string{"/pets/1.0.0/a%2Fb", "/pets/1.0.0/a%5cb", "/pets/1.0.0/%00"} {
		r := g.get(t, target)
		if r.Status != 400 || refusal(t, r).Code != "400" {
			t.Errorf("%s: %+v", target, r)
		}
	}
	if n := g.envoy.Stat(stat) - before; n != 3 {
		t.Errorf("%s grew by %d, want 3", stat, n)
	}
}

// Above some number of APIs in one table routes are found through a tree: the
// answers are the same.
func TestWholeSegmentsThroughTheMatcherTree(t *testing.T) {
	const n = 250
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["many"] = envoytest.HTTP1(t)
		var out []*keymanager.API
		for i := range n {
			out = append(out, api(keymanager.APIID(fmt.Sprintf("many-%d", i)), "/many", fmt.Sprintf("1.%d", i), func(a *keymanager.API) {
				a.Production = []string{b["many"].URL(fmt.Sprintf("/v%d", i))}
			}))
		}
		// An ancestor of some: what is below it and no version of its own is its.
		return append(out, api("many-of-many", "/many/1.2", "x", func(a *keymanager.API) {
			a.Production = []string{b["many"].URL("/deep")}
		}), api("many-root", "/many", "root", func(a *keymanager.API) {
			a.Production = []string{b["many"].URL("/")}
		}))
	}})
	if !strings.Contains(string(g.envoy.Get("/config_dump")), "prefix_match_map") {
		t.Fatal("the table has no matcher tree: this test sees nothing")
	}
	ok := func(api, path, seen string) want { return want{200, api, path, "many", seen} }
	for _, tc := range []struct {
		target string
		want
	}{
		{"/many/1.2/z", ok("many-2", "/many/1.2/z", "/v2/z")},
		{"/many/1.2/x", ok("many-of-many", "/many/1.2/x", "/deep")},
		{"/many/1.2", ok("many-2", "/many/1.2", "/v2")},
		{"/many/1.2?q=/many/1.3", ok("many-2", "/many/1.2?q=/many/1.3", "/v2?q=/many/1.3")},
		{"/many/1.20/x", ok("many-20", "/many/1.20/x", "/v20/x")},
		{"/many/1.200/x", ok("many-200", "/many/1.200/x", "/v200/x")},
		{"/many/1.2/x/y", ok("many-of-many", "/many/1.2/x/y", "/deep/y")},
		{"/many/1.2/xy", ok("many-2", "/many/1.2/xy", "/v2/xy")},
		{"/many/root", ok("many-root", "/many/root", "/")},
		{"/many/root/x", ok("many-root", "/many/root/x", "/x")},
		{"/many/1.1/../1.3/x", ok("many-3", "/many/1.3/x", "/v3/x")},
		{"/many/1.2x", want{status: 404}},
		{"/many/1.2000", want{status: 404}},
		{"/many/1.", want{status: 404}},
		{"/many", want{status: 404}},
		{"/manyx/1.2", want{status: 404}},
		{"/MANY/1.2", want{status: 404}},
	} {
		t.Run("E7 "+tc.target, func(t *testing.T) {
			g.try(t, tc.want, func() envoytest.Reply { return g.get(t, tc.target) })
		})
	}
}
