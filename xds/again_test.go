package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"tollgate/keymanager"
)

// What an Envoy refuses is tried again later, though nothing has changed.
func TestRefusedIsTriedAgain(t *testing.T) {
	r := serve(t, newCatalog(api("pets")), func(o *Options) { o.RetryAfter = 20 * time.Millisecond }).waitReady()
	n := newClient(t, r.addr, "n")
	refuse := func(name string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.refuses = func(k kind, res *discoveryv3.Resource) bool {
			return name != "" && strings.Contains(res.GetName(), name)
		}
	}
	for _, what := range []string{"default/birds", "be/fish-1"} { // a table, a cluster
		t.Run(what, func(t *testing.T) {
			refuse(what)
			n.connect()
			name := strings.TrimSuffix(what[strings.IndexByte(what, '/')+1:], "-1")
			r.catalog.put(api(name))
			eventually(t, func() error {
				if s := r.gateways.state("xds-1"); len(s.Rejected) != 1 || s.Rejected[0].API != keymanager.APIID(name+"-1") {
					return fmt.Errorf("rejected %+v", s.Rejected)
				}
				return nil
			})
			eventually(t, func() error { // more than once
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.nacks < 3 {
					return fmt.Errorf("%d refusals", n.nacks)
				}
				return nil
			})
			if s := r.gateways.state("xds-1"); len(s.Rejected) != 1 { // all the while
				t.Errorf("rejected %+v", s.Rejected)
			}
			refuse("")
			r.waitHas(n, scopes, "default/"+name)
			eventually(t, func() error {
				if s := r.gateways.state("xds-1"); len(s.Rejected) != 0 {
					return fmt.Errorf("rejected %+v", s.Rejected)
				}
				return nil
			})
			n.mu.Lock()
			n.nacks = 0
			n.mu.Unlock()
		})
	}
	// One node's own trouble: others accept the listener.
	t.Run("one node", func(t *testing.T) {
		good, bad := newClient(t, r.addr, "good").connect(), newClient(t, r.addr, "bad")
		r.waitSame(good)
		bad.refuses = func(k kind, _ *discoveryv3.Resource) bool { return k == listeners }
		bad.connect()
		eventually(t, func() error {
			bad.mu.Lock()
			defer bad.mu.Unlock()
			if bad.nacks < 3 {
				return fmt.Errorf("%d refusals", bad.nacks)
			}
			bad.refuses = nil
			return nil
		})
		r.waitSame(bad)
	})
}
