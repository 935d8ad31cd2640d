//go:build !short

package envoytest

import (
	"errors"
	"strings"
	"testing"
)

func TestStartsTheRealEnvoy(t *testing.T) {
	dir := Dir(t)
	e := Start(t, Options{XDS: dir + "/xds.sock", Authz: NewAuthz(t).Path(), NodeID: "n-1", Group: "g-1"})
	Eventually(t, func() error {
		if s := e.State(); s != "PRE_INITIALIZING" && s != "INITIALIZING" {
			return errors.New("state " + s)
		}
		return nil
	})
	if info := string(e.Get("/server_info")); !strings.Contains(info, `"n-1"`) || !strings.Contains(info, `"g-1"`) {
		t.Errorf("server_info %s", info)
	}
	e.Post("/logging?ext_authz=debug")
	if e.Stat("server.concurrency") != 1 || len(e.Stats("^server")) < 2 || e.Stat("no.such.stat") != 0 {
		t.Errorf("stats %v", e.Stats("^server"))
	}
	e.Stop()
}
