package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy"
)

// client is a model of an Envoy: it takes responses or refuses them as Envoy
// does, remembers what it has, and says so when it comes back. It fails the
// test when a table routes to a cluster that it does not have.
type client struct {
	t     testing.TB
	addr  string
	id    string
	group string
	creds credentials.TransportCredentials

	mu        sync.Mutex
	has       [kinds]map[string]*discoveryv3.Resource
	refuses   func(k kind, r *discoveryv3.Resource) bool
	whole     bool // a refused resource refuses its whole response, in every kind
	silent    [kinds]bool
	withheld  [kinds][]*discoveryv3.DeltaDiscoveryRequest
	received  [kinds]int // resources, removals included
	responses [kinds]int
	nacks     int
	missing   []string // clusters that a table routed to in vain
	failure   error    // how the stream ended

	stream  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	sending sync.Mutex
	cancel  context.CancelFunc
	conn    *grpc.ClientConn
	done    chan struct{}
}

func newClient(t testing.TB, addr, id string) *client {
	c := &client{t: t, addr: addr, id: id, group: "default", creds: insecure.NewCredentials()}
	for k := range kinds {
		c.has[k] = map[string]*discoveryv3.Resource{}
	}
	t.Cleanup(c.disconnect)
	return c
}

// node is what an Envoy 1.40.0 says of itself: a patch of 0 is left out.
func (c *client) node() *corev3.Node {
	return &corev3.Node{Id: c.id, Cluster: c.group, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
			Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40},
		}}}
}

// dial opens a stream, after the end of an earlier one.
func (c *client) dial() {
	c.t.Helper()
	if err := c.open(); err != nil {
		c.t.Fatal(err)
	}
}

// open is dial whose failure is looked at.
func (c *client) open() error {
	c.disconnect()
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(c.creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		cancel()
		_ = conn.Close()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream, c.conn, c.failure = stream, conn, nil
	c.cancel = func() {
		cancel()
		_ = conn.Close()
	}
	return nil
}

// connect opens a stream and subscribes to clusters and listeners; tables
// follow when there is a listener.
func (c *client) connect() *client {
	c.t.Helper()
	c.dial()
	c.mu.Lock()
	c.done = make(chan struct{})
	for k := range kinds {
		c.withheld[k] = nil
	}
	first := []*discoveryv3.DeltaDiscoveryRequest{c.subscription(clusters), c.subscription(listeners)}
	again := len(c.has[listeners]) > 0
	if again {
		first = append(first, c.subscription(scopes))
	}
	c.mu.Unlock()
	first[0].Node = c.node()
	for _, r := range first {
		c.send(r)
	}
	go func() {
		defer close(c.done)
		subscribed := again
		for {
			r, err := c.stream.Recv()
			if err != nil {
				c.mu.Lock()
				c.failure = err
				c.mu.Unlock()
				return
			}
			k, ok := kindOf(r.GetTypeUrl())
			if !ok {
				c.t.Errorf("a response of type %q", r.GetTypeUrl())
				return
			}
			c.mu.Lock()
			answer := c.take(k, r)
			if c.silent[k] {
				c.withheld[k] = append(c.withheld[k], answer)
				answer = nil
			}
			c.mu.Unlock()
			if answer != nil {
				c.send(answer)
			}
			if k == listeners && !subscribed {
				subscribed = true
				c.mu.Lock()
				sub := c.subscription(scopes)
				c.mu.Unlock()
				c.send(sub)
			}
		}
	}()
	return c
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.stream.Send(r) // a broken stream shows in Recv
}

func (c *client) subscription(k kind) *discoveryv3.DeltaDiscoveryRequest {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: k.url(), InitialResourceVersions: map[string]string{}}
	for name, res := range c.has[k] {
		r.InitialResourceVersions[name] = res.GetVersion()
	}
	return r
}

// take applies a response, or what Envoy would apply of it.
func (c *client) take(k kind, r *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	c.responses[k]++
	c.received[k] += len(r.GetResources()) + len(r.GetRemovedResources())
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	bad := map[string]bool{}
	for _, res := range r.GetResources() {
		if c.refuses != nil && c.refuses(k, res) {
			bad[res.GetName()] = true
		}
	}
	if len(bad) > 0 {
		c.nacks++
		ack.ErrorDetail = &rpcstatus.Status{Code: 13, Message: fmt.Sprintf("refused: %d resources", len(bad))}
		if c.whole || k == scopes { // SRDS is all or nothing
			return ack
		}
	}
	for _, res := range r.GetResources() {
		if !bad[res.GetName()] {
			c.has[k][res.GetName()] = res
		}
	}
	for _, name := range r.GetRemovedResources() {
		delete(c.has[k], name)
	}
	c.checkClusters()
	return ack
}

// checkClusters looks for routes to clusters that are not there.
func (c *client) checkClusters() {
	for _, res := range c.has[scopes] {
		for _, name := range clustersOf(c.t, res) {
			if c.has[clusters][name] == nil {
				c.missing = append(c.missing, res.GetName()+" -> "+name)
			}
		}
	}
}

func clustersOf(t testing.TB, res *discoveryv3.Resource) []string {
	var out []string
	for _, r := range routesIn(t, res) {
		out = append(out, r.GetRoute().GetCluster())
	}
	return out
}

func routesIn(t testing.TB, res *discoveryv3.Resource) []*routev3.Route {
	s := new(routev3.ScopedRouteConfiguration)
	if err := proto.Unmarshal(res.GetResource().GetValue(), s); err != nil {
		t.Fatal(err)
	}
	var out []*routev3.Route
	for _, vh := range s.GetRouteConfiguration().GetVirtualHosts() {
		routes, err := routesOf(vh)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, routes...)
	}
	return out
}

func (c *client) disconnect() {
	if c.cancel != nil {
		c.cancel()
	}
	if c.done != nil {
		<-c.done
	}
	c.cancel, c.done = nil, nil
}

// versions is what the client has.
func (c *client) versions(k kind) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for name, r := range c.has[k] {
		out[name] = r.GetVersion()
	}
	return out
}

// routes returns cluster names by API of the table of a segment; nil without one.
func (c *client) routes(segment string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	res := c.has[scopes]["default/"+segment]
	if res == nil {
		return nil
	}
	out := map[string]string{}
	for _, r := range routesIn(c.t, res) {
		out[r.GetMetadata().GetFilterMetadata()[envoy.RouteMetadata].GetFields()[envoy.RouteAPI].GetStringValue()] = r.GetRoute().GetCluster()
	}
	return out
}

// current is what the log of the server's group holds.
func (r *running) current(k kind) map[string]string {
	l := r.groups["default"].log
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]string{}
	for name, e := range l.tables[k].entries {
		if e.now.value != nil {
			out[name] = versionString(e.now.version)
		}
	}
	return out
}

// waitSame waits until the client has exactly what the server holds.
func (r *running) waitSame(c *client) {
	r.t.Helper()
	eventually(r.t, func() error {
		for k := range kinds {
			if has, want := c.versions(k), r.current(k); !maps.Equal(has, want) {
				return fmt.Errorf("%s: the client has %v, the server %v", k, has, want)
			}
		}
		return nil
	})
}

func (c *client) noneMissing() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.missing) > 0 {
		c.t.Errorf("routes to clusters that are not there: %v", c.missing)
	}
}

// ended waits for the end of the stream.
func (c *client) ended() error {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		return errors.New("the stream has not ended")
	}
	return c.failure
}
