//go:build !short

package bootstrap_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"tollgate/envoy"
	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
)

// A slow authz has thousands of calls open at once: none is refused by a
// breaker of the cluster. With Envoy's own breakers many are.
func TestBreakers(t *testing.T) {
	const callers = 4000
	run := func(t *testing.T, change func(map[string]any)) (statuses map[int]int, overflow uint64) {
		authz, dir := &checks{}, envoytest.Dir(t)
		gate := make(chan struct{})
		authz.gate.Store(&gate)
		socket := filepath.Join(dir, "authz.sock")
		authz.serve(t, listen(t, "unix", socket))
		e := newGateway(t, socket, 1, nil, change)
		results := call(t, e.Addr("tcp-0"), callers)
		counters := func() uint64 {
			var n uint64
			for _, v := range e.Stats(`^cluster\.authz\.upstream_rq_(pending|active)_overflow$`) {
				n += v
			}
			return n
		}
		envoytest.Eventually(t, func() error {
			if n := authz.waiting.Load(); n+int64(counters()) < callers {
				return fmt.Errorf("%d calls wait, %d overflowed", n, counters())
			}
			return nil
		})
		close(gate)
		return <-results, counters()
	}
	t.Run("E24 ours", func(t *testing.T) {
		statuses, overflow := run(t, nil)
		if statuses[http.StatusOK] != callers || overflow != 0 {
			t.Errorf("%v, and %d overflowed", statuses, overflow)
		}
	})
	t.Run("E24 control: the defaults", func(t *testing.T) {
		statuses, overflow := run(t, func(static map[string]any) {
			for _, c := range static["clusters"].([]any) {
				if c := c.(map[string]any); c["name"] == envoy.ClusterAuthz {
					delete(c, "circuit_breakers")
				}
			}
		})
		if statuses[http.StatusServiceUnavailable] == 0 || overflow == 0 {
			t.Errorf("%v, and %d overflowed: the test shows nothing", statuses, overflow)
		}
	})
}

// call sends n requests at once over HTTP/2, and counts the answers by status.
func call(t *testing.T, addr string, n int) <-chan map[int]int {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 4}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 2*envoytest.Patience)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var wait sync.WaitGroup
	statuses := map[int]int{}
	for range n {
		wait.Go(func() {
			status := 0
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
			if err == nil {
				var res *http.Response
				if res, err = transport.RoundTrip(req); err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
					status = res.StatusCode
				}
			}
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	out := make(chan map[int]int, 1)
	go func() {
		wait.Wait()
		out <- statuses
	}()
	return out
}

// One connection of each worker goes to authz, and comes back after a restart.
func TestConnectionsToAuthz(t *testing.T) {
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("E25 %d workers", workers), func(t *testing.T) {
			socket := filepath.Join(envoytest.Dir(t), "authz.sock")
			authz := &checks{}
			stop := authz.serve(t, listen(t, "unix", socket))
			e := newGateway(t, socket, workers, nil, nil)
			addr := e.Addr("tcp-0")
			connected := func() {
				t.Helper()
				envoytest.Eventually(t, func() error {
					// A new connection goes to any of the workers.
					if r := envoytest.Get(t, addr, "/", "localhost"); r.Status != http.StatusOK {
						return fmt.Errorf("status %d", r.Status)
					}
					if n := e.Stat("cluster.authz.upstream_cx_active"); n != uint64(workers) {
						return fmt.Errorf("%d connections", n)
					}
					return nil
				})
				for range 20 * workers {
					envoytest.Get(t, addr, "/", "localhost")
				}
				if n := e.Stat("cluster.authz.upstream_cx_active"); n != uint64(workers) {
					t.Errorf("%d connections after one call at a time", n)
				}
			}
			connected()
			stop()
			if r := envoytest.Get(t, addr, "/", "localhost"); r.Status != http.StatusServiceUnavailable {
				t.Errorf("status %d without authz", r.Status)
			}
			authz.serve(t, listen(t, "unix", socket))
			connected()
		})
	}
}

// A worker opens another connection to authz when one has as many calls open as
// authz takes on it.
func TestConnectionsForManyCalls(t *testing.T) {
	t.Run("E25 many calls at once", func(t *testing.T) {
		const each, callers = 16, 40
		socket := filepath.Join(envoytest.Dir(t), "authz.sock")
		authz, gate := &checks{}, make(chan struct{})
		authz.gate.Store(&gate)
		authz.serve(t, listen(t, "unix", socket), grpc.MaxConcurrentStreams(each))
		e := newGateway(t, socket, 1, nil, nil)
		results := call(t, e.Addr("tcp-0"), callers)
		envoytest.Eventually(t, func() error {
			if calls, n := authz.waiting.Load(), e.Stat("cluster.authz.upstream_cx_active"); calls != callers || n != 3 {
				return fmt.Errorf("%d calls over %d connections", calls, n)
			}
			return nil
		})
		close(gate)
		if statuses := <-results; statuses[http.StatusOK] != callers {
			t.Errorf("%v", statuses)
		}
	})
}

// An idle connection is asked for a sign of life, and not so often that authz
// takes it for an attack. The times are those of the bootstrap and of authz
// (30 s, at least 5 s), both shorter.
func TestKeepaliveOfAnIdleConnection(t *testing.T) {
	run := func(t *testing.T, least time.Duration) (*envoytest.Envoy, *pings) {
		socket := filepath.Join(envoytest.Dir(t), "authz.sock")
		authz, lis := &checks{}, &pings{Listener: listen(t, "unix", socket)}
		authz.serve(t, lis, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: least, PermitWithoutStream: true}))
		e := newGateway(t, socket, 1, func(o *bootstrap.Options) { o.AuthzPing, o.AuthzIdlePing = 250*time.Millisecond, 500*time.Millisecond }, nil)
		if r := envoytest.Get(t, e.Addr("tcp-0"), "/", "localhost"); r.Status != http.StatusOK {
			t.Fatalf("status %d", r.Status)
		}
		return e, lis
	}
	t.Run("E25 pings are welcome", func(t *testing.T) {
		e, lis := run(t, 10*time.Millisecond)
		envoytest.Eventually(t, func() error {
			if n := lis.seen(); n < 6 {
				return fmt.Errorf("%d pings", n)
			}
			return nil
		})
		if n := e.Stat("cluster.authz.upstream_cx_destroy"); n != 0 || e.Stat("cluster.authz.upstream_cx_active") != 1 {
			t.Errorf("%d connections were lost", n)
		}
	})
	t.Run("E25 control: too many pings", func(t *testing.T) {
		e, _ := run(t, time.Hour)
		envoytest.Eventually(t, func() error {
			if e.Stat("cluster.authz.upstream_cx_active") != 0 {
				return fmt.Errorf("the connection is still there")
			}
			return nil
		})
	})
}

// pings counts the PING frames (RFC 9113 section 6.7) that clients send.
type pings struct {
	net.Listener
	mu sync.Mutex
	n  int
}

func (p *pings) seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *pings) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pinged{Conn: c, to: p, skip: len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")}, nil
}

// pinged reads the 9-byte heads of the frames that pass.
type pinged struct {
	net.Conn
	to   *pings
	head []byte
	skip int // bytes up to the next head
}

func (c *pinged) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if c.skip > 0 {
			step := min(c.skip, len(rest))
			c.skip, rest = c.skip-step, rest[step:]
			continue
		}
		step := min(9-len(c.head), len(rest))
		c.head, rest = append(c.head, rest[:step]...), rest[step:]
		if len(c.head) == 9 {
			if c.head[3] == 6 && c.head[4]&1 == 0 { // a ping, not the answer to one
				c.to.mu.Lock()
				c.to.n++
				c.to.mu.Unlock()
			}
			c.skip = int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
			c.head = c.head[:0]
		}
	}
	return n, err
}

// Envoy refuses the client that is one too many, and its health port answers
// all the same; when its health checks are made to fail, it says so.
func TestOverload(t *testing.T) {
	const limit = 200
	socket := filepath.Join(envoytest.Dir(t), "authz.sock")
	(&checks{}).serve(t, listen(t, "unix", socket))
	e := envoytest.Start(t, envoytest.Options{
		XDS: "/tmp/nobody.sock", Authz: socket, Listeners: []string{"tcp-0", "health"},
		Bootstrap: func(o *bootstrap.Options) { o.ConnectionLimit, o.Health = limit, "127.0.0.1:0" },
		Raw:       withoutXDS(t, nil),
	})
	addr, healthAddr := e.Addr("tcp-0"), e.Addr("health")
	health := func(path string, want int) {
		t.Helper()
		if r := envoytest.Get(t, healthAddr, path, "localhost"); r.Status != want {
			t.Errorf("%s: status %d, want %d", path, r.Status, want)
		}
	}
	health("/healthz", http.StatusOK)
	health("/", http.StatusNotFound)
	health("/ready", http.StatusNotFound)
	envoytest.Eventually(t, func() error { // the health check's own connections are closed
		if n := e.Stat("http.health.downstream_cx_active"); n != 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	open := make([]net.Conn, limit)
	for i := range open {
		open[i] = dial(t, addr)
		keepsOpen(t, open[i])
	}
	t.Run("E16 one too many", func(t *testing.T) {
		c := dial(t, addr)
		_, _ = io.WriteString(c, envoytest.Request("GET", "/", "localhost"))
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("connection %d was answered %q, %v", limit+1, b, err)
		}
		health("/healthz", http.StatusOK)
		keepsOpen(t, open[0])
		if n := e.Stats(`downstream_global_cx_overflow$`); len(n) == 0 {
			t.Error("no statistic counts the refusal")
		}
	})
	t.Run("E16 one goes, another comes", func(t *testing.T) {
		_ = open[0].Close()
		envoytest.Eventually(t, func() error {
			if r := envoytest.Get(t, addr, "/", "localhost"); r.Status != http.StatusOK {
				return fmt.Errorf("status %d", r.Status)
			}
			return nil
		})
	})
	t.Run("E16 health checks fail", func(t *testing.T) {
		e.Post("/healthcheck/fail")
		health("/healthz", http.StatusServiceUnavailable)
		if s := e.State(); s != "DRAINING" {
			t.Errorf("/ready says %s", s)
		}
	})
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: envoytest.Patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * envoytest.Patience))
	return c
}

// keepsOpen sends a request that leaves its connection open.
func keepsOpen(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, envoytest.Request("GET", "/", "localhost")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !strings.HasSuffix(string(got), "hello") {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if got = append(got, b[:n]...); err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
		t.Fatalf("%q", got)
	}
}
