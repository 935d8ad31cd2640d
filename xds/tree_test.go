package xds

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"tollgate/keymanager"
)

// words make paths that are often prefixes of one another.
var words = []string{"a", "ab", "abc", "b", "1", "1.0", "1.0.0", "x-y", "~", "v1"}

// randomAPIs makes n APIs with base paths below segment, each once.
func randomAPIs(random *rand.Rand, segment string, n int) []*keymanager.API {
	seen := map[string]bool{}
	var out []*keymanager.API
	for len(out) < n {
		a := api("x", "http://127.0.0.1:1")
		a.ID = keymanager.APIID(fmt.Sprintf("%s-%d", strings.TrimPrefix(segment, "/"), len(out)))
		a.Context = segment
		for range random.IntN(3) {
			a.Context += "/" + words[random.IntN(len(words))]
		}
		a.Version = words[random.IntN(len(words))] + words[random.IntN(len(words))]
		if random.IntN(4) == 0 { // two routes
			a.Backend.Retry = &keymanager.Retry{Attempts: 1, On: []keymanager.RetryCondition{keymanager.Retry503}}
		}
		if !seen[a.BasePath()] {
			seen[a.BasePath()] = true
			out = append(out, a)
		}
	}
	return out
}

// randomPath is near the base path of one of the APIs.
func randomPath(random *rand.Rand, apis []*keymanager.API) string {
	path := apis[random.IntN(len(apis))].BasePath()
	for range random.IntN(4) {
		switch random.IntN(6) {
		case 0:
			path = path[:len(path)-1] // a part of a segment, or of its slash
		case 1:
			path += words[random.IntN(len(words))]
		case 2:
			path += "?" + words[random.IntN(len(words))] + "=" + apis[0].BasePath()
		default:
			path += "/" + words[random.IntN(len(words))]
		}
	}
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	return path
}

// matches is Envoy's match of a route: whole segments of the path without its
// query, and the method.
func matches(r *routev3.Route, method, path string) bool {
	path, _, _ = strings.Cut(path, "?")
	rest, below := strings.CutPrefix(path, r.GetMatch().GetPathSeparatedPrefix())
	if !below || rest != "" && rest[0] != '/' {
		return false
	}
	for _, h := range r.GetMatch().GetHeaders() {
		if (h.GetStringMatch().GetExact() == method) == h.GetInvertMatch() {
			return false
		}
	}
	return true
}

func first(routes []*routev3.Route, method, path string) *routev3.Route {
	for _, r := range routes {
		if matches(r, method, path) {
			return r
		}
	}
	return nil
}

// A tree chooses what the list would choose, for any base paths.
func TestTreeChoosesLikeTheList(t *testing.T) {
	t.Run("E38", func(t *testing.T) {
		g := &Group{Name: "g", Hosts: []string{"localhost"}}
		found, missed := 0, 0
		for seed := range uint64(1000) {
			random := rand.New(rand.NewPCG(seed, 38))
			apis := randomAPIs(random, "/big", 1+random.IntN(30))
			var plans []*plan
			for _, a := range apis {
				p, _, err := newPlan(g, a)
				if err != nil {
					t.Fatal(err)
				}
				plans = append(plans, p)
			}
			sorted := byHosts(plans)[0].apis
			var p packer
			var list []*routev3.Route
			routes := make([][]*routev3.Route, len(sorted))
			for i := range sorted {
				routes[i] = apiRoutes(&p, sorted[i])
				list = append(list, routes[i]...)
			}
			tree := pathTree(&p, sorted, routes).GetMatcherTree().GetPrefixMatchMap().GetMap()
			if p.err != nil {
				t.Fatal(p.err)
			}
			for range 30 {
				path, method := randomPath(random, apis), []string{"GET", "POST"}[random.IntN(2)]
				// The longest key that is a prefix of the path, query and all; no
				// shorter one is tried.
				var leaf []*routev3.Route
				for end := len(path); end > 0; end-- {
					if m := tree[path[:end]]; m != nil {
						var err error
						if leaf, err = routesAt(m.GetAction().GetTypedConfig()); err != nil {
							t.Fatal(err)
						}
						break
					}
				}
				want, got := first(list, method, path), first(leaf, method, path)
				if want.GetName() != got.GetName() || want.GetRoute().GetRetryPolicy().GetRetryOn() != got.GetRoute().GetRetryPolicy().GetRetryOn() {
					t.Fatalf("seed %d, %s %s: the tree chooses %q, the list %q", seed, method, path, got.GetName(), want.GetName())
				}
				if want == nil {
					missed++
				} else {
					found++
				}
			}
		}
		if found < 5000 || missed < 1000 {
			t.Errorf("only %d paths had an API, %d had none", found, missed)
		}
	})
}
