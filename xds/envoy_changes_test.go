//go:build !short

package xds

import (
	"fmt"
	"testing"

	"tollgate/envoy/envoytest"
)

// start runs an Envoy on the server, with an authz that allows everything.
func (r *running) start(t *testing.T) (*envoytest.Envoy, *envoytest.Authz) {
	t.Helper()
	authz := envoytest.NewAuthz(t)
	authz.Allow(envoytest.OK())
	e := envoytest.Start(t, envoytest.Options{XDS: r.addr, Authz: authz.Path(), Listeners: []string{"tcp-0"}})
	return e, authz
}

func answers(t *testing.T, e *envoytest.Envoy, path string, want int) func() error {
	addr := e.Addr("tcp-0")
	return func() error {
		if got := envoytest.Get(t, addr, path, "localhost"); got.Status != want {
			return fmt.Errorf("%s: %d %s, want %d", path, got.Status, got.Body, want)
		}
		return nil
	}
}

func TestEnvoyServesWhatTheCatalogSays(t *testing.T) {
	backend := envoytest.HTTP1(t)
	c := newCatalog(api("pets", backend.URL("/v1")))
	r := serve(t, c).waitReady()
	e, _ := r.start(t)
	eventually(t, answers(t, e, "/pets/1.0.0/cats", 200))
	if seen := backend.Seen(); len(seen) == 0 || seen[0].Path != "/v1/cats" {
		t.Errorf("the back end saw %+v", seen)
	}
	r.waitConfirmed(c.put(api("orders", backend.URL(""))))
	if err := answers(t, e, "/orders/1.0.0/x", 200)(); err != nil {
		t.Error(err)
	}
	r.waitConfirmed(c.remove("pets-1"))
	if err := answers(t, e, "/pets/1.0.0/cats", 404)(); err != nil {
		t.Error(err)
	}
}
