//go:build !short

package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	r.mu.Lock()
	r.listener = func(m proto.Message) { envoytest.WaitForAuthz(t, m) }
	r.mu.Unlock()
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
	return startLoadOf(t, &http.Transport{MaxIdleConnsPerHost: 32}, "http://"+addr, perSecond, next)
}

func startLoadOf(t *testing.T, transport *http.Transport, base string, perSecond int, next func(i int) string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, seen: map[int]int{}, first: map[int]string{}}
	client := &http.Client{Transport: transport}
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
				req, err := http.NewRequest(http.MethodGet, base+path, http.NoBody)
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

// count is how many answers there are.
func (l *load) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.seen {
		n += k
	}
	return n
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
	t.Run("E36 clear text", func(t *testing.T) { changesUnderLoad(t, nil) })
	t.Run("E36 https", func(t *testing.T) { changesUnderLoad(t, envoytest.NewCA(t)) })
}

// changesUnderLoad calls over TLS if there is an authority.
func changesUnderLoad(t *testing.T, ca *envoytest.CA) {
	t.Helper()
	one, two := envoytest.HTTP1(t), envoytest.HTTP1(t)
	c := newCatalog()
	for i := range 10 {
		c.put(api(fmt.Sprintf("stable%d", i), one.URL("")))
		c.put(api(fmt.Sprintf("change%d", i), one.URL("")))
	}
	var secure []func(*Options)
	transport, base := &http.Transport{MaxIdleConnsPerHost: 32}, "http://"
	if ca != nil {
		pair := ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}})
		secure = append(secure, onHTTPS(&ListenerTLS{Certificates: []string{"edge"}}, map[string]Certificate{"edge": pairOf(pair)}))
		base, transport.TLSClientConfig = "https://", &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
	}
	r := serve(t, c, secure...).waitReady()
	e := r.gatewayOf(t)
	addr := e.Addr("tcp-0")
	l := startLoadOf(t, transport, base+addr, 500, func(i int) string {
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
	for path, want := range map[string]int{"/new199/1.0.0/x": 200, "/new100/1.0.0/x": 404} {
		if ca != nil {
			if res, _, err := (visit{t: t, addr: addr, ca: ca}).get("localhost", path); err != nil || res.status != want {
				t.Errorf("%s: %v, %v", path, res, err)
			}
			continue
		}
		must(t, answers(t, e, path, want)())
	}
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
