package xds

import (
	"testing"
	"time"
)

// A request that Envoy has routed to a cluster waits for authz before it goes
// there: the cluster outlives its routes by the grace, and no longer.
func TestClusterHasGrace(t *testing.T) {
	w := newWorld(t, 1)
	const grace = 2 * time.Second
	w.g.opts.Grace = grace
	p := w.peers[0]
	w.put(api("pets", "http://127.0.0.1:1"))
	w.settle()
	old := p.routed()["pets-1"][1]
	w.put(api("pets", "http://127.0.0.1:2"))
	w.settle()
	if p.routed()["pets-1"][1] == old {
		t.Fatal("the routes have not left the old cluster")
	}
	w.now = w.now.Add(grace - 1)
	if wait := w.g.step(); wait != 1 {
		t.Errorf("the group sleeps for %v, want until the grace has passed", wait)
	}
	w.settle()
	if p.has[clusters][old] == "" {
		t.Error("the old cluster goes before its grace has passed")
	}
	// It is used again, and left again: the grace counts anew.
	w.put(api("pets", "http://127.0.0.1:1"))
	w.settle()
	w.put(api("pets", "http://127.0.0.1:2"))
	w.settle()
	w.now = w.now.Add(grace - 1)
	w.settle()
	if p.has[clusters][old] == "" {
		t.Error("the grace does not count anew")
	}
	w.now = w.now.Add(1)
	w.settle()
	w.noLeaks(p)
	if len(p.has[clusters]) != 1 {
		t.Errorf("clusters %v, want the one in use", p.has[clusters])
	}
}
