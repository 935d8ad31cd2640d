//go:build !short

package xds

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// Above some two hundred APIs of one first segment and host their routes are a
// tree. It chooses what the list would: the longest base path that is a whole
// number of segments of the path.
func TestEnvoyTreeChoosesLikeTheList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "ab", "abc", "b", "1", "1.0", "1.0.0", "x-y", "~", "v1"}
	backend := envoytest.HTTP1(t)
	c := newCatalog()
	bases := map[string]keymanager.APIID{}
	for len(bases) < linearRoutes+100 {
		a := api("x", backend.URL(""))
		a.ID = keymanager.APIID(fmt.Sprintf("api-%d", len(bases)))
		a.Context = "/big"
		for range random.IntN(3) {
			a.Context += "/" + words[random.IntN(len(words))]
		}
		a.Version = words[random.IntN(len(words))] + words[random.IntN(len(words))]
		if bases[a.BasePath()] == "" {
			bases[a.BasePath()] = a.ID
			c.put(a)
		}
	}
	// want is the API of the longest base path above path.
	want := func(path string) keymanager.APIID {
		path, _, _ = strings.Cut(path, "?")
		for path != "" {
			if id := bases[path]; id != "" {
				return id
			}
			path = path[:strings.LastIndexByte(path, '/')]
		}
		return ""
	}
	r := serve(t, c).waitReady()
	authz := envoytest.NewAuthz(t)
	authz.Script(func(req *authv3.CheckRequest) envoytest.Answer {
		return envoytest.Answer{Response: envoytest.Deny(403, envoytest.API(req))}
	})
	e := envoytest.Start(t, envoytest.Options{XDS: r.addr, Authz: authz.Path(), Listeners: []string{"tcp-0"}})
	addr := e.Addr("tcp-0")
	eventually(t, func() error {
		if got := envoytest.Get(t, addr, "/big/zzz", "localhost"); got.Status != 404 {
			return fmt.Errorf("%d", got.Status)
		}
		return nil
	})
	var all []string
	for base := range bases {
		all = append(all, base)
	}
	found := 0
	for range 2000 {
		path := all[random.IntN(len(all))]
		for range random.IntN(3) {
			switch random.IntN(6) {
			case 0:
				path = path[:len(path)-1] // a part of a segment, or of its slash
			case 1:
				path += words[random.IntN(len(words))]
			case 2:
				path += "?" + words[random.IntN(len(words))] + "=/big/1"
			default:
				path += "/" + words[random.IntN(len(words))]
			}
		}
		id := want(path)
		if id != "" {
			found++
		}
		status := 404
		if id != "" {
			status = 403
		}
		got := envoytest.Get(t, addr, path, "localhost")
		if got.Status != status || id != "" && got.Body != string(id) {
			t.Errorf("%s: %d %q, want %d %q", path, got.Status, got.Body, status, id)
		}
	}
	if found < 500 {
		t.Errorf("only %d paths had an API", found)
	}
}
