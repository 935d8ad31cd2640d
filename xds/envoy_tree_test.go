//go:build !short

package xds

import (
	"fmt"
	"math/rand/v2"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// Above some two hundred APIs of one first segment and host their routes are a
// tree. One host has few enough for a list, another has more that nobody calls:
// Envoy chooses the same API on both, for any path, and the one of the longest
// base path.
func TestEnvoyTreeChoosesLikeTheList(t *testing.T) {
	const list, tree = "list.example", "tree.example"
	backend := envoytest.HTTP1(t)
	c := newCatalog()
	var tables [][]*keymanager.API
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 38))
		segment := fmt.Sprintf("/s%d", seed)
		apis := randomAPIs(random, segment, 40+random.IntN(linearRoutes/2-40)) // up to two routes each
		for i, a := range randomAPIs(random, segment+"/filler", linearRoutes+1) {
			a.ID, a.Hosts = keymanager.APIID(fmt.Sprintf("filler-%d-%d", seed, i)), []string{tree}
			a.Production = []string{backend.URL("")}
			c.put(a)
		}
		for _, a := range apis {
			a.Hosts = []string{list, tree}
			a.Production = []string{backend.URL("")}
			c.put(a)
		}
		tables = append(tables, apis)
	}
	r := serve(t, c).waitReady()
	authz := envoytest.NewAuthz(t)
	authz.Script(func(req *authv3.CheckRequest) envoytest.Answer {
		return envoytest.Answer{Response: envoytest.Deny(403, envoytest.API(req))}
	})
	e := envoytest.Start(t, envoytest.Options{XDS: r.addr, Authz: authz.Path(), Listeners: []string{"tcp-0"}})
	r.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
	addr := e.Addr("tcp-0")
	t.Run("E38", func(t *testing.T) {
		found := 0
		for seed, apis := range tables {
			random := rand.New(rand.NewPCG(uint64(seed), 83))
			for range 250 {
				path, method := randomPath(random, apis), []string{"GET", "POST"}[random.IntN(2)]
				want, length := "", 0 // the API of the longest base path above path
				for _, a := range apis {
					if base := a.BasePath(); len(base) > length && matches(apiRoutes(&packer{}, &plan{base: base})[0], method, path) {
						want, length = string(a.ID), len(base)
					}
				}
				status := 404
				if want != "" {
					status = 403
					found++
				}
				for _, host := range []string{list, tree} {
					got := envoytest.Raw(t, addr, envoytest.Request(method, path, host, "Content-Length: 0"))
					if got.Status != status || want != "" && got.Body != want {
						t.Errorf("%s %s on %s: %d %q, want %d %q", method, path, host, got.Status, got.Body, status, want)
					}
				}
			}
		}
		if found < 500 {
			t.Errorf("only %d paths had an API", found)
		}
	})
}
