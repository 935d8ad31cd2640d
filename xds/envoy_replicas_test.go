//go:build !short

package xds

import (
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// switchboard is an address behind which one of several servers answers.
type switchboard struct {
	lis    net.Listener
	target atomic.Value // string
	mu     sync.Mutex
	conns  map[net.Conn]bool
	frozen chan struct{} // closed = nothing is
	wait   sync.WaitGroup
}

func newSwitchboard(t *testing.T, target string) *switchboard {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &switchboard{lis: lis, conns: map[net.Conn]bool{}, frozen: make(chan struct{})}
	close(s.frozen)
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
					_, _ = io.Copy(thawed{pair[0], s}, pair[1])
					_ = pair[0].Close()
					_ = pair[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		s.freeze(false)
		s.to(target)
		s.wait.Wait()
	})
	return s
}

// thawed is a connection to which nothing is written while the board is frozen.
type thawed struct {
	net.Conn
	s *switchboard
}

// Write implements io.Writer.
func (c thawed) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	frozen := c.s.frozen
	c.s.mu.Unlock()
	<-frozen
	return c.Conn.Write(p)
}

// freeze holds back all bytes, like a process that is stopped.
func (s *switchboard) freeze(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.frozen:
		if on {
			s.frozen = make(chan struct{})
		}
	default:
		if !on {
			close(s.frozen)
		}
	}
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
	keyManager := func(o *Options) { o.Groups[0].KeyManager.Addresses = []string{"http://127.0.0.1:9"} }
	first := serve(t, c, keyManager).waitReady()
	second := serve(t, c, keyManager).waitReady()
	for k := range kinds {
		if a, b := first.current(k), second.current(k); !maps.Equal(a, b) || len(a) == 0 && k != secrets {
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
		if _, responses := second.sent(); responses != int(secrets) { // all but those by name
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
