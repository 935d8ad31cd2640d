//go:build !short

package xds

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// E41: an Envoy gets the configuration of its certificate's node and group over
// mutual TLS, or nothing; and it takes none from a stranger.
func TestEnvoyIdentity(t *testing.T) {
	backend := envoytest.HTTP1(t)
	edge := envoytest.NewCA(t)
	listener := edge.Issue(envoytest.Leaf{DNS: []string{"localhost"}})
	f := newFleet(t, newCatalog(api("pets", backend.URL(""))), func(o *Options) {
		o.Certificates = map[string]Certificate{"edge": pairOf(listener)}
		// Every group serves https, so that every Envoy would ask for a secret.
		for i := range o.Groups {
			o.Groups[i].Listeners = []Listener{{Address: "127.0.0.1", TLS: &ListenerTLS{Certificates: []string{"edge"}}}}
		}
	})
	authz := envoytest.NewAuthz(t)
	authz.Allow(envoytest.OK())
	start := func(t *testing.T, node, group string, raw func([]byte) []byte, listeners ...string) *envoytest.Envoy {
		t.Helper()
		return envoytest.Start(t, envoytest.Options{
			XDS: f.addr, Authz: authz.Path(), NodeID: node, Group: group, Raw: raw, Listeners: listeners,
		})
	}
	identity := func(group, node string) envoytest.Pair {
		return f.ca.Issue(envoytest.Leaf{URI: gatewayID(group, node)})
	}
	refused := func(t *testing.T, e *envoytest.Envoy, stat string) {
		t.Helper()
		// More than one attempt, so that it is no accident of the start.
		eventually(t, func() error {
			if n := e.Stat(stat); n < 3 {
				return fmt.Errorf("%s is %d", stat, n)
			}
			return nil
		})
		if s := e.State(); s == "LIVE" {
			t.Errorf("state %s", s)
		}
		for _, kind := range []string{"listener_manager.lds", "cluster_manager.cds"} {
			if n := e.Stat(kind + ".update_success"); n != 0 {
				t.Errorf("%s has %d updates", kind, n)
			}
		}
	}
	const rejections = "cluster.xds_cluster.upstream_rq_total" // streams that were opened, and ended
	t.Run("E41 another group", func(t *testing.T) {
		e := start(t, "gw-1", "other", envoytest.MutualTLS(t, f.ca.PEM, identity("default", "gw-1"), "xds.test"))
		refused(t, e, rejections)
		if !strings.Contains(e.Log(), `has the certificate of node "gw-1" of group "default"`) {
			t.Errorf("Envoy does not say why:\n%s", e.Log())
		}
	})
	t.Run("E41 another node", func(t *testing.T) {
		refused(t, start(t, "gw-2", "default", envoytest.MutualTLS(t, f.ca.PEM, identity("default", "gw-1"), "xds.test")), rejections)
	})
	t.Run("E41 not a gateway", func(t *testing.T) {
		pair := f.ca.Issue(envoytest.Leaf{URI: "spiffe://" + trustDomain + "/authz/default/gw-1"})
		refused(t, start(t, "gw-1", "default", envoytest.MutualTLS(t, f.ca.PEM, pair, "xds.test")), rejections)
	})
	t.Run("E41 of another authority", func(t *testing.T) {
		pair := envoytest.NewCA(t).Issue(envoytest.Leaf{URI: gatewayID("default", "gw-1")})
		refused(t, start(t, "gw-1", "default", envoytest.MutualTLS(t, f.ca.PEM, pair, "xds.test")), "cluster.xds_cluster.upstream_cx_total")
	})
	t.Run("E41 no certificate", func(t *testing.T) {
		refused(t, start(t, "gw-1", "default", nil), "cluster.xds_cluster.upstream_cx_total")
	})
	t.Run("E41 the server has another name", func(t *testing.T) {
		e := start(t, "gw-1", "default", envoytest.MutualTLS(t, f.ca.PEM, identity("default", "gw-1"), "elsewhere.test"))
		refused(t, e, "cluster.xds_cluster.ssl.fail_verify_san")
	})
	t.Run("E41 the server has another authority", func(t *testing.T) {
		e := start(t, "gw-1", "default", envoytest.MutualTLS(t, envoytest.NewCA(t).PEM, identity("default", "gw-1"), "xds.test"))
		refused(t, e, "cluster.xds_cluster.ssl.fail_verify_error")
	})
	if resources, responses := f.sent(); resources+responses != 0 {
		t.Errorf("%d resources in %d responses went to who was refused", resources, responses)
	}
	t.Run("E41 as it should be", func(t *testing.T) {
		e := start(t, "gw-1", "default", envoytest.MutualTLS(t, f.ca.PEM, identity("default", "gw-1"), "xds.test"), "tcp-0")
		eventually(t, func() error {
			if n, ok := f.node("default", "gw-1"); !ok || !n.Connected || n.Acknowledged == (keymanager.Position{}) {
				return fmt.Errorf("node %+v", n)
			}
			return nil
		})
		v := visit{t: t, addr: e.Addr("tcp-0"), ca: edge}
		if res, _, err := v.get("localhost", "/pets/1.0.0/"); err != nil || res.status != 200 {
			t.Errorf("%v, %v", res, err)
		}
		if strings.Contains(e.Log(), keyOf(t, listener)) {
			t.Error("Envoy's log shows a key")
		}
	})
	if f.log.count(keyOf(t, listener)) != 0 {
		t.Error("the log shows a key")
	}
}

// stays checks that Envoy serves and has lost nothing.
func stays(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	for _, s := range []string{"cluster_manager.cluster_removed", "listener_manager.listener_removed"} {
		if n := e.Stat(s); n != 0 {
			t.Errorf("%s = %d", s, n)
		}
	}
	must(t, answers(t, e, "/pets/1.0.0/x", 200)())
}

// E39: without a control plane the traffic goes on, and who starts waits; one
// that knows nothing yet takes nothing away.
func TestEnvoyOutage(t *testing.T) {
	backend := envoytest.HTTP1(t)
	c := newCatalog(api("pets", backend.URL("")))
	r := serve(t, c).waitReady()
	board := newSwitchboard(t, r.addr)
	at := func(o *envoytest.Options) { o.XDS = board.lis.Addr().String() }
	e := r.gatewayOf(t, at)
	r.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
	l := startLoad(t, e.Addr("tcp-0"), 100, func(int) string { return "/pets/1.0.0/x" })
	t.Run("E39 no control plane", func(t *testing.T) {
		board.to("127.0.0.1:1")
		eventually(t, func() error {
			if e.Stat("control_plane.connected_state") != 0 {
				return errors.New("still connected")
			}
			return nil
		})
		late := r.gatewayOf(t, at, func(o *envoytest.Options) { o.NodeID, o.Listeners = "late", nil })
		eventually(t, func() error {
			if n := late.Stat("cluster.xds_cluster.upstream_cx_connect_fail") + late.Stat("cluster.xds_cluster.upstream_cx_destroy"); n < 3 {
				return fmt.Errorf("%d attempts", n)
			}
			return nil
		})
		if s := late.State(); s == "LIVE" {
			t.Error("ready without a configuration")
		}
		stays(t, e)
		c.put(api("birds", backend.URL(""))) // while nobody listens
		board.to(r.addr)
		late.WaitReady("tcp-0")
		eventually(t, answers(t, late, "/birds/1.0.0/x", 200))
		eventually(t, answers(t, e, "/birds/1.0.0/x", 200))
	})
	t.Run("E39 a catalog that is not loaded", func(t *testing.T) {
		empty := newCatalog()
		empty.breakStreams(true)
		log := &logged{}
		second := serve(t, empty, func(o *Options) { o.Logger, o.StreamBurst = log.logger(), 10000 })
		board.to(second.addr)
		eventually(t, func() error {
			if log.count("Envoy refused") == 0 || log.count("the catalog is not loaded") == 0 {
				return errors.New("nobody was refused")
			}
			return nil
		})
		from := e.Stat("cluster.xds_cluster.upstream_rq_total")
		eventually(t, func() error { // it comes again and again
			if n := e.Stat("cluster.xds_cluster.upstream_rq_total"); n < from+3 {
				return fmt.Errorf("%d streams", n-from)
			}
			return nil
		})
		if resources, responses := second.sent(); resources+responses != 0 {
			t.Errorf("%d resources in %d responses", resources, responses)
		}
		stays(t, e)
		board.to(r.addr)
	})
	if seen := l.end(); len(seen) != 1 || seen[200] == 0 {
		t.Errorf("answers %v: %v", seen, l.first)
	}
	stays(t, e)
}
