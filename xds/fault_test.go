//go:build faults

package xds

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// What happens to xds, and to an Envoy without it.
func TestFaultControlPlane(t *testing.T) {
	backend := envoytest.HTTP1(t)
	ca := envoytest.NewCA(t)
	edge := ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}})
	certificates := map[string]Certificate{"edge": pairOf(edge)}
	c := newCatalog()
	for i := range 100 {
		c.put(api(fmt.Sprintf("api%d", i), backend.URL("")))
	}
	c.put(api("pets", backend.URL("")))
	start := func() *running { return serve(t, c, onHTTPS(nil, certificates)).waitReady() }
	one, two := start(), start()
	board := newSwitchboard(t, one.addr)
	at := func(o *envoytest.Options) { o.XDS = board.lis.Addr().String() }
	e := one.gatewayOf(t, at)
	one.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
	l := startLoad(t, e.Addr("tcp-0"), 200, func(int) string { return "/pets/1.0.0/x" })
	connected := func(want uint64) {
		t.Helper()
		eventually(t, func() error {
			if n := e.Stat("control_plane.connected_state"); n != want {
				return fmt.Errorf("connected %d, want %d", n, want)
			}
			return nil
		})
	}
	before, _ := one.sent()
	t.Run("F70 flaps", func(t *testing.T) {
		for i := range 50 {
			board.to("127.0.0.1:1")
			connected(0)
			r := []*running{two, one}[i%2]
			_, answered := r.sent()
			board.to(r.addr)
			connected(1)
			eventually(t, func() error { // its three questions are answered
				if _, n := r.sent(); n < answered+int(secrets) {
					return fmt.Errorf("%d answers", n-answered)
				}
				return nil
			})
		}
		after, _ := one.sent()
		again, _ := two.sent()
		if after != before || again != 0 {
			t.Errorf("%d resources were sent again", after-before+again)
		}
		stays(t, e)
	})
	t.Run("F70 killed", func(t *testing.T) {
		board.to("127.0.0.1:1")
		one.end()
		connected(0)
		stays(t, e)
		three := start() // it remembers nothing
		board.to(three.addr)
		connected(1)
		three.waitConfirmed(c.put(api("born", backend.URL(""))))
		must(t, answers(t, e, "/born/1.0.0/x", 200)())
		if n, _ := three.sent(); n != 2 {
			t.Errorf("%d resources are sent, want the new API's two", n)
		}
		board.to(two.addr)
		connected(1)
	})
	t.Run("F70 stopped", func(t *testing.T) {
		two.waitConfirmed(c.put(api("calm", backend.URL(""))))
		board.freeze(true)
		c.put(api("late", backend.URL("")))
		from := l.count()
		eventually(t, func() error {
			if l.count() < from+200 {
				return errors.New("too few requests")
			}
			return nil
		})
		stays(t, e)
		must(t, answers(t, e, "/late/1.0.0/x", 404)())
		board.freeze(false)
		eventually(t, answers(t, e, "/late/1.0.0/x", 200))
	})
	if seen := l.end(); len(seen) != 1 || seen[200] == 0 {
		t.Errorf("answers %v: %v", seen, l.first)
	}
	t.Run("F73 Envoy killed without xds", func(t *testing.T) {
		board.to("127.0.0.1:1")
		if err := syscall.Kill(e.Pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-e.Done()
		e = two.gatewayOf(t, at, func(o *envoytest.Options) { o.Listeners = nil })
		eventually(t, func() error {
			if n := e.Stat("cluster.xds_cluster.upstream_cx_total"); n < 3 {
				return fmt.Errorf("%d attempts", n)
			}
			return nil
		})
		if s := e.State(); s == "LIVE" {
			t.Error("ready without a configuration")
		}
		if n := e.Stat("listener_manager.total_listeners_active"); n != 0 {
			t.Errorf("%d listeners", n)
		}
		board.to(two.addr)
		e.WaitReady("tcp-0")
		must(t, answers(t, e, "/pets/1.0.0/x", 200)())
		must(t, answers(t, e, "/late/1.0.0/x", 200)())
	})
}

// A certificate that is half written, exchanged for another's or gone while it
// is read again leaves what there was, and one line.
func TestFaultCertificates(t *testing.T) {
	ca, log := envoytest.NewCA(t), &logged{}
	issue := func() envoytest.Pair { return ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}}) }
	good, next := issue(), issue()
	backend := envoytest.HTTP1(t)
	r := serve(t, newCatalog(api("pets", backend.URL(""))),
		onHTTPS(&ListenerTLS{Certificates: []string{"edge"}}, map[string]Certificate{"edge": pairOf(good)}),
		func(o *Options) { o.Logger = log.logger() }).waitReady()
	e := r.gatewayOf(t)
	r.waitConfirmed(keymanager.Position{Epoch: r.catalog.epoch, Seq: 1})
	v := visit{t: t, addr: e.Addr("tcp-0"), ca: ca}
	for name, bad := range map[string]Certificate{
		"truncated certificate": {CertPEM: next.Cert[:len(next.Cert)/2], KeyPEM: next.Key},
		"truncated key":         {CertPEM: next.Cert, KeyPEM: next.Key[:len(next.Key)/2]},
		"swapped":               {CertPEM: next.Cert, KeyPEM: good.Key},
		"empty":                 {},
		"expired":               pairOf(ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}, NotAfter: time.Now().Add(-time.Minute)})),
	} {
		t.Run("F42 "+name, func(t *testing.T) {
			lines, last := log.count("certificate not taken"), ""
			if err := r.SetCertificates(map[string]Certificate{"edge": pairOf(good)}); err != nil {
				t.Fatal(err)
			}
			for range 10 { // read again and again
				err := r.SetCertificates(map[string]Certificate{"edge": bad})
				if err == nil || last != "" && err.Error() != last {
					t.Fatalf("got %v, before %s", err, last)
				}
				last = err.Error()
			}
			if n := log.count("certificate not taken"); n != lines+1 {
				t.Errorf("%d lines for one mistake:\n%s", n-lines, log)
			}
			if res, shown, err := v.get("localhost", "/pets/1.0.0/"); err != nil || res.status != 200 || !bytes.Equal(shown, der(good)) {
				t.Errorf("%v, %v", res, err)
			}
		})
	}
	if err := r.SetCertificates(map[string]Certificate{"edge": pairOf(next)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, shown, err := v.get("localhost", "/pets/1.0.0/"); err != nil || !bytes.Equal(shown, der(next)) {
			return fmt.Errorf("not yet the new one: %w", err)
		}
		return nil
	})
}

// Fifty Envoys that start, and later come back, at once: all have everything in
// 30 s, one stream of the catalog serves them, and memory is bounded.
func TestFaultHerd(t *testing.T) {
	const envoys, apis = 50, 10000
	c := newCatalog()
	for i := range apis {
		c.put(api(fmt.Sprintf("api%05d", i), "http://127.0.0.1:8080/v1"))
	}
	c.log = nil
	r := serve(t, c).waitReady()
	most := peak()
	var clients []*counter
	t.Run("F44 all at once", func(t *testing.T) {
		begin := time.Now()
		for i := range envoys {
			clients = append(clients, newNamedCounter(t, r.addr, fmt.Sprint("gw-", i), nil, [kinds]map[string]string{}))
		}
		for _, k := range clients {
			k.waitFor(apis)
		}
		t.Logf("%d Envoys have %d APIs after %v", envoys, apis, time.Since(begin))
		eventually(t, func() error {
			if n := len(r.gateways.state("xds-1").Nodes); n != envoys {
				return fmt.Errorf("%d nodes are reported", n)
			}
			return nil
		})
	})
	megabytes := most()
	t.Logf("at most %.0f MB, with the clients", megabytes)
	c.mu.Lock()
	watches := c.watches
	c.mu.Unlock()
	if watches != 1 {
		t.Errorf("%d streams of the catalog", watches)
	}
	if megabytes > 1000 {
		t.Errorf("%.0f MB", megabytes)
	}
}
