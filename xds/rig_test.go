package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"tollgate/keymanager"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an effect; only a hang is longer.
const patience = 30 * time.Second

// catalog is a key manager's catalog in memory.
type catalog struct {
	mu      sync.Mutex
	epoch   keymanager.Epoch
	seq     uint64
	apis    map[keymanager.APIID]*keymanager.API
	log     []keymanager.Change // Items, each with its place
	changed chan struct{}       // closed on every change
	broken  chan struct{}       // closed to break the streams
	down    bool
	watches int // that have begun
}

func newCatalog(apis ...*keymanager.API) *catalog {
	c := &catalog{
		epoch: keymanager.Epoch{1}, apis: map[keymanager.APIID]*keymanager.API{},
		changed: make(chan struct{}), broken: make(chan struct{}),
	}
	for _, a := range apis {
		c.put(a)
	}
	return c
}

// put publishes an API and returns its position.
func (c *catalog) put(a *keymanager.API) keymanager.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	api := *a
	api.Position = c.seq
	c.apis[api.ID] = &api
	return c.append(keymanager.Change{API: &api})
}

func (c *catalog) remove(id keymanager.APIID) keymanager.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	delete(c.apis, id)
	return c.append(keymanager.Change{RemovedAPI: id})
}

func (c *catalog) append(ch keymanager.Change) keymanager.Position {
	at := keymanager.Position{Epoch: c.epoch, Seq: c.seq}
	ch.Mark = keymanager.Mark{Type: keymanager.Item, At: at}
	c.log = append(c.log, ch)
	close(c.changed)
	c.changed = make(chan struct{})
	return at
}

// breakStreams ends every Watch. With gap the next ones skip what they missed.
func (c *catalog) breakStreams(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	close(c.broken)
	c.broken = make(chan struct{})
}

// Watch implements keymanager.Catalog.
func (c *catalog) Watch(ctx context.Context, from keymanager.Position, _ []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	c.mu.Lock()
	if c.down {
		c.mu.Unlock()
		return keymanager.Errorf(keymanager.KindUnavailable, "the key manager is down")
	}
	c.watches++
	broken := c.broken
	at := keymanager.Position{Epoch: c.epoch, Seq: c.seq}
	var apis []*keymanager.API
	if from.Epoch != c.epoch {
		apis = slices.Collect(maps.Values(c.apis))
	}
	c.mu.Unlock()
	if from.Epoch != at.Epoch {
		send := func(t keymanager.MessageType, a *keymanager.API) error {
			return fn(keymanager.Change{Mark: keymanager.Mark{Type: t, At: at, After: at}, API: a})
		}
		if err := send(keymanager.SnapshotBegin, nil); err != nil {
			return err
		}
		for _, a := range apis {
			if err := send(keymanager.Item, a); err != nil {
				return err
			}
		}
		if err := send(keymanager.SnapshotEnd, nil); err != nil {
			return err
		}
		from = at
	}
	heartbeat := time.NewTicker(50 * time.Millisecond)
	defer heartbeat.Stop()
	for {
		c.mu.Lock()
		changed := c.changed
		var pending []keymanager.Change
		for _, ch := range c.log {
			if ch.At.Seq > from.Seq {
				pending = append(pending, ch)
			}
		}
		c.mu.Unlock()
		for _, ch := range pending {
			ch.After = from
			if err := fn(ch); err != nil {
				return err
			}
			from = ch.At
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return keymanager.Errorf(keymanager.KindUnavailable, "the stream broke")
		case <-changed:
		case <-heartbeat.C:
			if err := fn(keymanager.Change{Mark: keymanager.Mark{Type: keymanager.Heartbeat, At: from, After: from}}); err != nil {
				return err
			}
		}
	}
}

// gateways remembers the last report of each.
type gateways struct {
	mu     sync.Mutex
	states map[string]keymanager.GatewayState
}

// Report implements keymanager.Gateways.
func (g *gateways) Report(_ context.Context, s keymanager.GatewayState) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.states == nil {
		g.states = map[string]keymanager.GatewayState{}
	}
	g.states[s.ID] = s
	return nil
}

func (g *gateways) state(id string) keymanager.GatewayState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.states[id]
}

// running is a Server under test on a loopback port.
type running struct {
	*Server
	t        testing.TB
	catalog  *catalog
	gateways *gateways
	addr     string
	grpc     *grpc.Server
	end      func()

	mu sync.Mutex
	// rewrite changes resources on their way: to see what Envoy does with what is
	// never published.
	rewrite   func(kind, proto.Message)
	listener  func(proto.Message) // changes listeners, before rewrite
	resources int                 // sent, removals included
	responses int
}

// sending is a stream of which the test sees, and may change, what is sent.
type sending struct {
	grpc.ServerStream
	r *running
}

// SendMsg implements grpc.ServerStream.
func (s sending) SendMsg(m any) error {
	if d, ok := m.(*discoveryv3.DeltaDiscoveryResponse); ok {
		s.r.mu.Lock()
		s.r.responses++
		s.r.resources += len(d.GetResources()) + len(d.GetRemovedResources())
		k, _ := kindOf(d.GetTypeUrl())
		if s.r.rewrite != nil || k == listeners && s.r.listener != nil {
			for _, res := range d.GetResources() {
				inner, err := res.GetResource().UnmarshalNew()
				if err != nil {
					s.r.t.Error(err)
					continue
				}
				if s.r.listener != nil {
					s.r.listener(inner)
				}
				if s.r.rewrite != nil {
					s.r.rewrite(k, inner)
				}
				if err := res.GetResource().MarshalFrom(inner); err != nil {
					s.r.t.Error(err)
				}
			}
		}
		s.r.mu.Unlock()
	}
	return s.ServerStream.SendMsg(m)
}

// serve starts a Server of one group, "default", on a loopback port.
func serve(t testing.TB, c *catalog, change ...func(*Options)) *running {
	t.Helper()
	return serveTLS(t, c, nil, change...)
}

// serveTLS serves with mutual TLS.
func serveTLS(t testing.TB, c *catalog, secure *tls.Config, change ...func(*Options)) *running {
	t.Helper()
	r := &running{t: t, catalog: c, gateways: &gateways{}}
	o := Options{
		ID: "xds-1", Catalog: c, Gateways: r.gateways, Now: time.Now,
		Groups: []Group{{
			Name: "default", Hosts: []string{"localhost", "127.0.0.1"},
			Listeners: []Listener{{Address: "127.0.0.1"}},
		}},
	}
	for _, fn := range change {
		fn(&o)
	}
	var err error
	if r.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = lis.Addr().String()
	r.grpc = grpc.NewServer(append(ServerOptions(secure), grpc.ChainStreamInterceptor(
		func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, sending{s, r})
		}))...)
	r.Register(r.grpc)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = r.grpc.Serve(lis)
	}()
	var once sync.Once
	r.end = func() {
		once.Do(func() {
			cancel()
			<-done
			r.grpc.Stop()
			<-served
		})
	}
	t.Cleanup(r.end)
	return r
}

// sent returns how many resources, and responses, have gone out.
func (r *running) sent() (resources, responses int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resources, r.responses
}

// waitReady waits until the catalog is loaded.
func (r *running) waitReady() *running {
	r.t.Helper()
	eventually(r.t, r.Ready)
	return r
}

// waitConfirmed waits until every Envoy uses what was published at p.
func (r *running) waitConfirmed(p keymanager.Position) {
	r.t.Helper()
	eventually(r.t, func() error {
		s := r.gateways.state("xds-1")
		if !s.Confirmed.Reached(p) {
			return errors.New("confirmed " + s.Confirmed.String() + ", want " + p.String())
		}
		return nil
	})
}

func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still, after %v: %v", patience, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// api makes a published API /<name>/1.0.0 with back ends at urls.
func api(name string, urls ...string) *keymanager.API {
	if len(urls) == 0 {
		urls = []string{"http://127.0.0.1:9"}
	}
	return &keymanager.API{
		ID: keymanager.APIID(name + "-1"), Organization: "acme", Name: name, Context: "/" + name, Version: "1.0.0",
		Protocol: keymanager.HTTP1, Timeout: keymanager.DefaultTimeout, Production: urls, State: keymanager.StatePublished,
	}
}
