//go:build !short

package xds

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// gatewayOf runs an Envoy on the server, with an authz that allows everything.
func (r *running) gatewayOf(t *testing.T, change ...func(*envoytest.Options)) *envoytest.Envoy {
	t.Helper()
	authz := envoytest.NewAuthz(t)
	authz.Allow(envoytest.OK())
	o := envoytest.Options{XDS: r.addr, Authz: authz.Path(), Listeners: []string{"tcp-0"}}
	for _, fn := range change {
		fn(&o)
	}
	return envoytest.Start(t, o)
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestEnvoyServesWhatTheCatalogSays(t *testing.T) {
	backend := envoytest.HTTP1(t)
	c := newCatalog(api("pets", backend.URL("/v1")))
	r := serve(t, c).waitReady()
	e := r.gatewayOf(t)
	eventually(t, answers(t, e, "/pets/1.0.0/cats", 200))
	if seen := backend.Seen(); len(seen) == 0 || seen[0].Path != "/v1/cats" {
		t.Errorf("the back end saw %+v", seen)
	}
	r.waitConfirmed(c.put(api("orders", backend.URL(""))))
	must(t, answers(t, e, "/orders/1.0.0/x", 200)())
	moved := api("pets", backend.URL("/v1"))
	moved.Context = "/animals"
	r.waitConfirmed(c.put(moved))
	must(t, answers(t, e, "/pets/1.0.0/cats", 404)())
	must(t, answers(t, e, "/animals/1.0.0/cats", 200)())
	moved.State = keymanager.StateRetired
	r.waitConfirmed(c.put(moved))
	must(t, answers(t, e, "/animals/1.0.0/cats", 404)())
	r.waitConfirmed(c.remove("orders-1"))
	must(t, answers(t, e, "/orders/1.0.0/x", 404)())
	eventually(t, func() error {
		if s := string(e.Get("/clusters")); strings.Contains(s, "be/") {
			return fmt.Errorf("clusters are left over: %s", s)
		}
		return nil
	})
}

// load calls paths until it is stopped, and counts the answers by status.
type load struct {
	stop  context.CancelFunc
	wait  sync.WaitGroup
	mu    sync.Mutex
	seen  map[int]int
	first map[int]string // what the first answer of a status said
}

func startLoad(t *testing.T, addr string, perSecond int, next func(i int) string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, seen: map[int]int{}, first: map[int]string{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	var n atomic.Int64
	for range 16 {
		l.wait.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				path := next(int(n.Add(1)))
				req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				req.Host = "localhost"
				res, err := client.Do(req)
				var status int
				var said string
				if err != nil {
					said = err.Error()
				} else {
					status = res.StatusCode
					body, _ := io.ReadAll(res.Body)
					_ = res.Body.Close()
					said = path + ": " + string(body)
				}
				l.mu.Lock()
				l.seen[status]++
				if l.first[status] == "" {
					l.first[status] = said
				}
				l.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		l.end()
		tick.Stop()
		client.CloseIdleConnections()
	})
	return l
}

func (l *load) end() map[int]int {
	l.stop()
	l.wait.Wait()
	return l.seen
}

// A cluster with a name is in use only when Envoy has resolved it: its API
// appears without a single 503, and APIs with addresses do not wait for it.
func TestEnvoyBarrier(t *testing.T) {
	port := func(b *envoytest.Backend) string {
		_, p, err := net.SplitHostPort(b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	t.Run("E35 a slow name", func(t *testing.T) {
		backend, dns := envoytest.HTTP1(t), envoytest.NewDNS(t)
		c := newCatalog(api("pets", backend.URL("")))
		r := serve(t, c).waitReady()
		e := r.gatewayOf(t, func(o *envoytest.Options) {
			o.Bootstrap = func(b *bootstrap.Options) { b.DNS = dns.Addr() }
		})
		dns.Delay(time.Second)
		l := startLoad(t, e.Addr("tcp-0"), 100, func(i int) string {
			return []string{"/slow/1.0.0/x", "/pets/1.0.0/x", "/other/1.0.0/x"}[i%3]
		})
		slow := c.put(api("slow", "http://slow.internal:"+port(backend)))
		eventually(t, func() error {
			if e.Stat("cluster_manager.warming_clusters") != 1 {
				return fmt.Errorf("nothing warms")
			}
			return nil
		})
		c.put(api("other", "http://other.internal:"+port(backend)))
		c.put(api("fast", backend.URL("")))
		eventually(t, answers(t, e, "/fast/1.0.0/x", 200))
		if got := envoytest.Get(t, e.Addr("tcp-0"), "/slow/1.0.0/x", "localhost"); got.Status != 404 {
			t.Logf("the name was resolved before it could be seen to wait: %d", got.Status)
		}
		r.waitConfirmed(slow)
		must(t, answers(t, e, "/slow/1.0.0/x", 200)())
		eventually(t, answers(t, e, "/other/1.0.0/x", 200))
		if seen := l.end(); seen[200] == 0 || seen[404] == 0 || len(seen) != 2 {
			t.Errorf("answers %v, want 200 and (before there is a route) 404: %v", seen, l.first)
		}
	})
	t.Run("E35 a dead name server", func(t *testing.T) {
		backend, dns := envoytest.HTTP1(t), envoytest.NewDNS(t)
		c := newCatalog(api("pets", backend.URL("")))
		r := serve(t, c).waitReady()
		e := r.gatewayOf(t, func(o *envoytest.Options) {
			o.Bootstrap = func(b *bootstrap.Options) { b.DNS = dns.Addr() }
		})
		dns.Dead(true)
		dead := c.put(api("dead", "http://dead.internal:"+port(backend)))
		fast := c.put(api("fast", backend.URL("")))
		eventually(t, answers(t, e, "/fast/1.0.0/x", 200))
		r.waitConfirmed(dead)
		r.waitConfirmed(fast)
		must(t, answers(t, e, "/dead/1.0.0/x", 503)()) // a route, and nobody behind it
		r.waitConfirmed(c.put(api("later", backend.URL(""))))
		must(t, answers(t, e, "/later/1.0.0/x", 200)())
		must(t, answers(t, e, "/pets/1.0.0/x", 200)())
		dns.Dead(false)
		eventually(t, answers(t, e, "/dead/1.0.0/x", 200))
	})
}

// Changes under load cost no request: neither of the APIs that change, whose
// back ends are exchanged all the while, nor of those that do not.
func TestEnvoyChangesUnderLoad(t *testing.T) {
	one, two := envoytest.HTTP1(t), envoytest.HTTP1(t)
	c := newCatalog()
	for i := range 10 {
		c.put(api(fmt.Sprintf("stable%d", i), one.URL("")))
		c.put(api(fmt.Sprintf("change%d", i), one.URL("")))
	}
	r := serve(t, c).waitReady()
	e := r.gatewayOf(t)
	addr := e.Addr("tcp-0")
	l := startLoad(t, addr, 500, func(i int) string {
		return fmt.Sprintf("/%s%d/1.0.0/x", []string{"stable", "change"}[i%2], i/2%10)
	})
	var last keymanager.Position
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range 200 {
		<-tick.C
		c.put(api(fmt.Sprintf("new%d", i), one.URL("")))
		last = c.put(api(fmt.Sprintf("change%d", i%10), []*envoytest.Backend{two, one}[i/10%2].URL(fmt.Sprintf("/v%d", i))))
		if i >= 20 {
			last = c.remove(keymanager.APIID(fmt.Sprintf("new%d-1", i-20)))
		}
	}
	r.waitConfirmed(last)
	if seen := l.end(); seen[200] < 100 || len(seen) != 1 {
		t.Errorf("answers %v, want only 200: %v", seen, l.first)
	}
	must(t, answers(t, e, "/new199/1.0.0/x", 200)())
	must(t, answers(t, e, "/new100/1.0.0/x", 404)())
	// 10 + 10 + 20 APIs, each with the one cluster that it uses.
	eventually(t, func() error {
		clusters := map[string]bool{}
		for _, line := range strings.Split(string(e.Get("/clusters")), "\n") {
			if name, _, _ := strings.Cut(line, "::"); strings.HasPrefix(name, "be/") {
				clusters[name] = true
			}
		}
		if len(clusters) != 40 {
			return fmt.Errorf("%d clusters, want 40", len(clusters))
		}
		return nil
	})
}

// What Envoy refuses is found among what is good, alone kept back and reported;
// repaired, it is in use.
func TestEnvoyRefusesOneAPI(t *testing.T) {
	const elsewhere = "127.0.0.2" // where the bad revisions of the API point to
	isPoison := func(c *clusterv3.Cluster) bool {
		ends := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()
		return ends[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress() == elsewhere
	}
	routes := func(s *routev3.ScopedRouteConfiguration, fn func(*routev3.VirtualHost, *routev3.Route)) {
		for _, vh := range s.GetRouteConfiguration().GetVirtualHosts() {
			for _, r := range vh.GetRoutes() {
				if r.GetRoute().GetPrefixRewrite() == "/bad" {
					fn(vh, r)
				}
			}
		}
	}
	for _, tt := range []struct {
		name   string
		poison func(proto.Message)
	}{
		{"a bad regular expression", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) {
					r.GetRoute().RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
						Pattern: &matcherv3.RegexMatcher{Regex: "("}, Substitution: "/",
					}
				})
			}
		}},
		{"a broken proto rule", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) { r.Action = nil })
			}
		}},
		{"host among the headers", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) {
					r.RequestHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "host", Value: "x"}}}
				})
			}
		}},
		{"a domain twice", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(vh *routev3.VirtualHost, _ *routev3.Route) { vh.Domains = []string{"localhost", "localhost"} })
			}
		}},
		{"a cluster that breaks a proto rule", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.ConnectTimeout = seconds(0)
			}
		}},
		{"a cluster that Envoy cannot use", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.GetLoadAssignment().Endpoints[0].LbEndpoints[0].GetEndpoint().Address = socketAddress("not-an-address", 1)
			}
		}},
	} {
		t.Run("E37 "+tt.name, func(t *testing.T) {
			backend := envoytest.HTTP1(t)
			c := newCatalog(api("pets", backend.URL("")), api("poison", backend.URL("/old")))
			neighbour := api("neighbour", backend.URL("")) // in the same table
			neighbour.Context = "/poison/neighbour"
			c.put(neighbour)
			r := serve(t, c).waitReady()
			e := r.gatewayOf(t)
			eventually(t, answers(t, e, "/poison/1.0.0/x", 200))
			r.setRewrite(func(_ kind, m proto.Message) { tt.poison(m) })

			// Alone; and then, at once, with good changes of its own table and of others.
			r.waitConfirmed(c.put(api("poison", "http://"+elsewhere+":1/bad")))
			rejected(t, r, "poison-1")
			c.breakStreams(true)
			c.put(api("poison", "http://"+elsewhere+":2/bad"))
			other := api("neighbour", backend.URL("/moved"))
			other.Context = "/poison/neighbour"
			c.put(other)
			c.put(api("pets", backend.URL("/moved")))
			last := c.put(api("new", backend.URL("")))
			c.breakStreams(false)
			r.waitConfirmed(last)
			rejected(t, r, "poison-1")
			for path, want := range map[string]string{
				"/poison/1.0.0/x":           "/old/x",
				"/poison/neighbour/1.0.0/x": "/moved/x",
				"/pets/1.0.0/x":             "/moved/x",
				"/new/1.0.0/x":              "/x",
			} {
				backend.Forget()
				eventually(t, answers(t, e, path, 200))
				if seen := backend.Seen(); len(seen) == 0 || seen[len(seen)-1].Path != want {
					t.Errorf("%s reached the back end as %+v, want %s", path, seen, want)
				}
			}
			// Another Envoy gets the same.
			second := r.gatewayOf(t, func(o *envoytest.Options) { o.NodeID = "test-2" })
			eventually(t, answers(t, second, "/pets/1.0.0/x", 200))
			eventually(t, answers(t, second, "/poison/neighbour/1.0.0/x", 200))

			r.setRewrite(nil)
			r.waitConfirmed(c.put(api("poison", backend.URL("/good"))))
			rejected(t, r)
			backend.Forget()
			must(t, answers(t, e, "/poison/1.0.0/x", 200)())
			if seen := backend.Seen(); len(seen) != 1 || seen[0].Path != "/good/x" {
				t.Errorf("the repaired API reached the back end as %+v", seen)
			}
		})
	}
}

// rejected waits until exactly these APIs are reported.
func rejected(t *testing.T, r *running, want ...keymanager.APIID) {
	t.Helper()
	eventually(t, func() error {
		got := map[keymanager.APIID]bool{}
		for _, x := range r.gateways.state("xds-1").Rejected {
			if x.Type == "" || x.Name == "" || x.Reason == "" || x.Since.IsZero() {
				return fmt.Errorf("an incomplete report: %+v", x)
			}
			got[x.API] = true
		}
		for _, id := range want {
			if !got[id] {
				return fmt.Errorf("reported %v, want %v", got, want)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("reported %v, want %v", got, want)
		}
		return nil
	})
}

// What xds finds itself never reaches Envoy.
func TestEnvoyNeverSeesWhatIsQuarantined(t *testing.T) {
	backend := envoytest.HTTP1(t)
	c := newCatalog(api("pets", backend.URL("/old")), api("orders", backend.URL("")))
	r := serve(t, c).waitReady()
	e := r.gatewayOf(t)
	eventually(t, answers(t, e, "/pets/1.0.0/x", 200))
	for what, change := range map[string]func(*keymanager.API){
		"E37 a base path that Envoy would read otherwise": func(a *keymanager.API) { a.Version = "1;0" },
		"E37 https without authorities":                   func(a *keymanager.API) { a.Production = []string{"https://x.internal"} },
		"E37 the place of another API":                    func(a *keymanager.API) { a.Context = "/orders" },
		"E37 two base paths":                              func(a *keymanager.API) { a.Sandbox = []string{"http://127.0.0.1:1/v2"} },
	} {
		t.Run(what, func(t *testing.T) {
			a := api("pets", backend.URL("/v1"))
			change(a)
			r.waitConfirmed(c.put(a))
			rejected(t, r, "pets-1")
			must(t, answers(t, e, "/pets/1.0.0/x", 200)())
			must(t, answers(t, e, "/orders/1.0.0/x", 200)())
			r.waitConfirmed(c.put(api("pets", backend.URL("/old"))))
			rejected(t, r)
		})
	}
	if s := e.Stat("cluster_manager.cds.update_rejected"); s != 0 {
		t.Errorf("Envoy refused %d responses", s)
	}
}

// switchboard is an address behind which one of several servers answers.
type switchboard struct {
	lis    net.Listener
	target atomic.Value // string
	mu     sync.Mutex
	conns  map[net.Conn]bool
	wait   sync.WaitGroup
}

func newSwitchboard(t *testing.T, target string) *switchboard {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &switchboard{lis: lis, conns: map[net.Conn]bool{}}
	s.target.Store(target)
	s.wait.Go(func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.target.Load().(string))
			if err != nil {
				_ = in.Close()
				continue
			}
			s.mu.Lock()
			s.conns[in], s.conns[out] = true, true
			s.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				s.wait.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
					_ = pair[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		s.to(target)
		s.wait.Wait()
	})
	return s
}

// to cuts all connections; new ones go to target.
func (s *switchboard) to(target string) {
	s.target.Store(target)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
		delete(s.conns, c)
	}
}

// E40: two servers build the same, so an Envoy that changes over is sent
// nothing but what changed meanwhile, and no request fails.
func TestEnvoyChangesOverToAnotherServer(t *testing.T) {
	backend := envoytest.HTTP1(t)
	c := newCatalog()
	for i := range 50 {
		c.put(api(fmt.Sprintf("api%d", i), backend.URL("/v1")))
	}
	keyManager := func(o *Options) { o.Groups[0].KeyManager = "http://127.0.0.1:9" }
	first := serve(t, c, keyManager).waitReady()
	second := serve(t, c, keyManager).waitReady()
	for k := range kinds {
		if a, b := first.current(k), second.current(k); !maps.Equal(a, b) || len(a) == 0 {
			t.Errorf("%s: two builds differ: %v, %v", k, a, b)
		}
	}
	board := newSwitchboard(t, first.addr)
	e := first.gatewayOf(t, func(o *envoytest.Options) { o.XDS = board.lis.Addr().String() })
	l := startLoad(t, e.Addr("tcp-0"), 100, func(i int) string { return fmt.Sprintf("/api%d/1.0.0/x", i%50) })
	connected := func(r *running, want bool) {
		t.Helper()
		eventually(t, func() error {
			for _, n := range r.gateways.state("xds-1").Nodes {
				if n.Connected == want && (!want || n.Acknowledged != keymanager.Position{}) {
					return nil
				}
			}
			return fmt.Errorf("nodes %+v", r.gateways.state("xds-1").Nodes)
		})
	}
	connected(first, true)
	board.to(second.addr)
	connected(second, true)
	eventually(t, func() error { // every kind has been answered
		if _, responses := second.sent(); responses != int(kinds) {
			return fmt.Errorf("%d responses", responses)
		}
		return nil
	})
	if resources, _ := second.sent(); resources != 0 {
		t.Errorf("%d resources are sent to an Envoy that has them", resources)
	}
	// Changed and removed while it changes over.
	before, _ := first.sent()
	board.to("127.0.0.1:1")
	connected(second, false)
	c.put(api("api7", backend.URL("/v2")))
	last := c.remove("api8-1")
	first.waitConfirmed(last)
	board.to(first.addr)
	connected(first, true)
	eventually(t, answers(t, e, "/api8/1.0.0/x", 404))
	eventually(t, func() error { // two tables, and a cluster that goes
		if after, _ := first.sent(); after-before != 3 {
			return fmt.Errorf("%d resources are sent, want 3", after-before)
		}
		return nil
	})
	seen := l.end()
	if delete(seen, 404); seen[200] == 0 || len(seen) != 1 { // 404 is of the API that was removed
		t.Errorf("answers %v: %v", seen, l.first)
	}
}
