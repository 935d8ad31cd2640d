package xds

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tollgate/keymanager"
)

func TestStreamsThatAreRefused(t *testing.T) {
	r := serve(t, newCatalog(api("pets"))).waitReady()
	version := func(major, minor uint32) *corev3.Node {
		return &corev3.Node{Id: "n", Cluster: "default", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
			UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: major, MinorNumber: minor}},
		}}
	}
	unknownGroup := version(1, 40)
	unknownGroup.Cluster = "elsewhere"
	nameless := version(1, 40)
	nameless.Id = ""
	long := version(1, 40)
	long.Id = strings.Repeat("n", 1<<20)
	for _, tt := range []struct {
		name string
		node *corev3.Node
		code codes.Code
		says string
	}{
		{"no node", nil, codes.InvalidArgument, "names no node"},
		{"long id", long, codes.InvalidArgument, "longer than 256 bytes"},
		{"no id", nameless, codes.InvalidArgument, "names no node"},
		{"unknown group", unknownGroup, codes.NotFound, "elsewhere"},
		{"old Envoy", version(1, 39), codes.FailedPrecondition, "1.39.0, want 1.40.0"},
		{"older Envoy", version(0, 99), codes.FailedPrecondition, "want 1.40.0"},
		{"no version", &corev3.Node{Id: "n", Cluster: "default"}, codes.FailedPrecondition, "want 1.40.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, r.addr, "n")
			c.dial()
			c.send(&discoveryv3.DeltaDiscoveryRequest{Node: tt.node, TypeUrl: clusters.url()})
			_, err := c.stream.Recv()
			if status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v about %q", err, tt.code, tt.says)
			}
		})
	}
	t.Run("newer Envoy", func(t *testing.T) {
		c := newClient(t, r.addr, "n")
		c.dial()
		c.send(&discoveryv3.DeltaDiscoveryRequest{Node: version(2, 0), TypeUrl: clusters.url()})
		if _, err := c.stream.Recv(); err != nil {
			t.Error(err)
		}
	})
}

// Who connects and says nothing is cut off, and does not hold up the end.
func TestSilentConnection(t *testing.T) {
	g := grpc.NewServer(ServerOptions(nil)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Second)) // grpc's own is 120 s
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("not cut off: %v", err)
	}
	g.Stop()
}

// An xds without a catalog must not answer: an empty answer would make Envoy
// delete its listeners.
func TestStreamsWaitForTheCatalog(t *testing.T) {
	c := newCatalog(api("pets"))
	c.breakStreams(true)
	r := serve(t, c)
	if r.Ready() == nil {
		t.Error("ready without a catalog")
	}
	n := newClient(t, r.addr, "n").connect()
	if err := n.ended(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	eventually(t, func() error {
		if p := r.gateways.state("xds-1").Phase; p != keymanager.PhaseSyncing {
			return fmt.Errorf("phase %s", p)
		}
		return nil
	})
	c.breakStreams(false)
	r.waitReady()
	n.connect()
	r.waitSame(n)
}

// The node comes with the first request of whatever kind; the rest of a stream
// names it no more.
func TestNodeOfTheFirstRequest(t *testing.T) {
	r := serve(t, newCatalog(api("pets"))).waitReady()
	c := newClient(t, r.addr, "n")
	c.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{Node: c.node(), TypeUrl: listeners.url()})
	if m, err := c.stream.Recv(); err != nil || len(m.GetResources()) != 1 {
		t.Fatal(m, err)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: scopes.url()})
	if m, err := c.stream.Recv(); err != nil || len(m.GetResources()) != 1 {
		t.Fatal(m, err)
	}
	// A kind of which there is nothing is not answered, and does no harm.
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", ResourceNamesSubscribe: []string{"x"}})
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters.url()})
	if m, err := c.stream.Recv(); err != nil || m.GetTypeUrl() != clusters.url() {
		t.Fatal(m, err)
	}
}

// Without the key manager Envoys keep what they have, new ones are served, and
// what happened meanwhile follows: resumed, or as a snapshot of another history.
func TestCatalogIsLostAndFound(t *testing.T) {
	for _, restored := range []bool{false, true} {
		t.Run(fmt.Sprintf("restored=%t", restored), func(t *testing.T) {
			c := newCatalog(api("pets"), api("orders"))
			r := serve(t, c, func(o *Options) { o.StaleAfter = 200 * time.Millisecond }).waitReady()
			one := newClient(t, r.addr, "one").connect()
			r.waitSame(one)
			c.breakStreams(true)
			c.remove("pets-1")
			c.put(api("birds"))
			eventually(t, func() error {
				if p := r.gateways.state("xds-1").Phase; p != keymanager.PhaseStale {
					return fmt.Errorf("phase %s", p)
				}
				return nil
			})
			if r.Ready() != nil {
				t.Error("not ready without the key manager")
			}
			two := newClient(t, r.addr, "two").connect()
			r.waitSame(two)
			if one.routes("pets") == nil || two.routes("pets") == nil {
				t.Error("a route went away with the key manager")
			}
			if restored {
				c.mu.Lock()
				c.epoch = keymanager.Epoch{2}
				c.log = nil
				c.mu.Unlock()
			}
			c.breakStreams(false)
			for _, n := range []*client{one, two} {
				eventually(t, func() error {
					if n.routes("pets") != nil || n.routes("birds") == nil || n.routes("orders") == nil {
						return fmt.Errorf("tables %v", n.versions(scopes))
					}
					return nil
				})
				n.noneMissing()
			}
			c.mu.Lock()
			at := keymanager.Position{Epoch: c.epoch, Seq: c.seq}
			c.mu.Unlock()
			r.waitConfirmed(at)
		})
	}
}

func TestGroupsGetTheirOwn(t *testing.T) {
	only := api("only")
	only.Labels = []string{"other"}
	both := api("both")
	both.Labels = []string{"default", "other"}
	c := newCatalog(only, both, api("every"))
	r := serve(t, c, func(o *Options) {
		o.Groups = append(o.Groups, Group{
			Name: "other", Hosts: []string{"*"}, Listeners: []Listener{{Address: "127.0.0.1", Port: 8443}},
			KeyManager: KeyManager{Addresses: []string{"http://127.0.0.1:9443"}},
		})
	}).waitReady()
	a := newClient(t, r.addr, "a").connect()
	b := newClient(t, r.addr, "b")
	b.group = "other"
	b.connect()
	want := func(n *client, names ...string) {
		t.Helper()
		eventually(t, func() error {
			has := n.versions(scopes)
			for _, name := range names {
				if has[name] == "" {
					return fmt.Errorf("no %s in %v", name, has)
				}
			}
			if len(has) != len(names) {
				return fmt.Errorf("got %v, want %v", has, names)
			}
			return nil
		})
	}
	want(a, "default/both", "default/every")
	want(b, "other/both", "other/every", "other/only", "other/oauth2", "other/.well-known")
	both.Labels = []string{"other"}
	c.put(both)
	want(a, "default/every")
	if r.gateways.state("xds-1/other").Group != "other" {
		t.Errorf("reports: %v", r.gateways.states)
	}
	b.noneMissing()
}

// Ending Run ends the streams and every goroutine.
func TestRunEnds(t *testing.T) {
	r := serve(t, newCatalog(api("pets"))).waitReady()
	n := newClient(t, r.addr, "n").connect()
	r.waitSame(n)
	r.end()
	if err := n.ended(); err == nil {
		t.Error("the stream goes on")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := New(r.Server.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run with an ended context: %v", err)
	}
}
