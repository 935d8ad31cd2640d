//go:build !short

package xds_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/xds"
)

// The gateway of the tests: one host, one listener on a port of Envoy's choice.
const (
	host     = "api.example.com"
	listener = "tcp-0"
)

// gateway is a real Envoy with what xds pushes to it, a scripted authz beside
// it, and the back ends of its APIs behind it.
type gateway struct {
	t     *testing.T
	km    *keymanagertest.KeyManager
	authz *envoytest.Authz
	envoy *envoytest.Envoy
	addr  string
	// The back ends, of which a test says what should have reached them.
	backends map[string]*envoytest.Backend
}

// setup is what a test changes of a gateway.
type setup struct {
	group     func(*xds.Group)
	bootstrap func(*bootstrap.Options)
	// rewrite changes each resource on its way to Envoy: to see what Envoy would
	// do with what xds never pushes.
	rewrite func(proto.Message)
	// inTime lets Envoy wait for authz no longer than it does elsewhere.
	inTime  bool
	options func(*xds.Options)
	apis    func(backends map[string]*envoytest.Backend) []*keymanager.API
}

// newGateway starts everything, and returns when Envoy serves.
func newGateway(t *testing.T, s setup) *gateway {
	t.Helper()
	g := &gateway{t: t, authz: envoytest.NewAuthz(t), backends: map[string]*envoytest.Backend{}}
	for _, name := range []string{"pets", "pets-sandbox", "orders", "root", "keymanager"} {
		g.backends[name] = envoytest.HTTP1(t)
	}
	apis := standardAPIs(g.backends)
	if s.apis != nil {
		apis = append(apis, s.apis(g.backends)...)
	}
	g.km = keymanagertest.New(keymanagertest.Options{}, apis...)
	group := xds.Group{
		Name: "default", Hosts: []string{host}, Listeners: []xds.Listener{{Address: "127.0.0.1", Port: 0}},
		AccessLog: "/dev/stdout", KeyManager: xds.KeyManager{Addresses: []string{g.backends["keymanager"].URL("")}},
	}
	if s.group != nil {
		s.group(&group)
	}
	options := xds.Options{ID: "xds-1", Catalog: g.km, Gateways: g.km, Groups: []xds.Group{group}, Now: time.Now}
	if s.options != nil {
		s.options(&options)
	}
	socket := serveXDS(t, options, func(m proto.Message) {
		if !s.inTime {
			envoytest.WaitForAuthz(t, m)
		}
		if s.rewrite != nil {
			s.rewrite(m)
		}
	})
	g.envoy = envoytest.Start(t, envoytest.Options{
		XDS: socket, Authz: g.authz.Path(), Listeners: []string{listener}, Bootstrap: s.bootstrap,
	})
	g.addr = g.envoy.Addr(listener)
	return g
}

// standardAPIs are what most tests call: one API rewritten to another base
// path, with a sandbox; one that is not rewritten; one rewritten to the root of
// its back end.
func standardAPIs(b map[string]*envoytest.Backend) []*keymanager.API {
	return []*keymanager.API{
		api("pets", "/pets", "1.0.0", func(a *keymanager.API) {
			a.Production = []string{b["pets"].URL("/v1/pets")}
			a.Sandbox = []string{b["pets-sandbox"].URL("/v1/pets")}
		}),
		api("orders", "/orders", "2.0", func(a *keymanager.API) {
			a.Production = []string{b["orders"].URL("/orders/2.0")}
		}),
		api("root", "/root", "2", func(a *keymanager.API) {
			a.Production = []string{b["root"].URL("/")}
		}),
	}
}

// api is a published API.
func api(id keymanager.APIID, path, version string, change func(*keymanager.API)) *keymanager.API {
	a := &keymanager.API{
		ID: id, Organization: "org", Name: string(id), Context: path, Version: version, Protocol: keymanager.HTTP1,
		Timeout: keymanager.DefaultTimeout, State: keymanager.StatePublished,
		Resources: []keymanager.Resource{{Method: "*", Path: "/*", AuthType: keymanager.AuthAny}},
	}
	change(a)
	return a
}

// serveXDS runs an xds server on a Unix socket until the test ends.
func serveXDS(t *testing.T, opts xds.Options, rewrite func(proto.Message)) (socket string) {
	t.Helper()
	server, err := xds.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(envoytest.Dir(t), "xds.sock")
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	gs := grpc.NewServer(append(xds.ServerOptions(nil), grpc.ChainStreamInterceptor(rewriter(rewrite)))...)
	server.Register(gs)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := server.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("xds: %v", err)
		}
	})
	wait.Go(func() {
		if err := gs.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			t.Errorf("xds: %v", err)
		}
	})
	t.Cleanup(func() {
		gs.Stop()
		cancel()
		wait.Wait()
	})
	return socket
}

// rewriter changes every resource of a response before it is sent.
func rewriter(change func(proto.Message)) grpc.StreamServerInterceptor {
	return func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if change != nil {
			s = &rewriting{ServerStream: s, change: change}
		}
		return handler(srv, s)
	}
}

type rewriting struct {
	grpc.ServerStream
	change func(proto.Message)
}

func (s *rewriting) SendMsg(m any) error {
	res, ok := m.(*discoveryv3.DeltaDiscoveryResponse)
	if !ok {
		return s.ServerStream.SendMsg(m)
	}
	res = proto.Clone(res).(*discoveryv3.DeltaDiscoveryResponse)
	for _, r := range res.GetResources() {
		msg, err := r.GetResource().UnmarshalNew()
		if err != nil {
			return err
		}
		s.change(msg)
		if err := r.GetResource().MarshalFrom(msg); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(res)
}

// want is what a request should come to: what the client gets, what authz was
// asked, what reached a back end.
type want struct {
	status int
	api    string // of the matched route; "" = authz is not asked
	authz  string // the path that authz saw
	at     string // the back end that was reached; "" = none
	path   string // the path that it saw
}

// forget drops what authz and the back ends have seen so far.
func (g *gateway) forget() {
	g.authz.Forget()
	for _, b := range g.backends {
		b.Forget()
	}
}

// try forgets, lets do call the gateway, and compares.
func (g *gateway) try(t *testing.T, w want, do func() envoytest.Reply) envoytest.Reply {
	t.Helper()
	g.forget()
	r := do()
	if r.Status != w.status {
		t.Errorf("status %d %s, want %d (%s)", r.Status, r.Reset, w.status, r.Body)
	}
	calls, asked := g.authz.Calls(), 0
	if w.api != "" {
		asked = 1
	}
	if len(calls) != asked {
		t.Errorf("authz was asked %d times, want %d", len(calls), asked)
	}
	for _, c := range calls {
		if envoytest.API(c) != w.api || envoytest.Path(c) != w.authz {
			t.Errorf("authz saw %q of API %q, want %q of %q", envoytest.Path(c), envoytest.API(c), w.authz, w.api)
		}
	}
	for name, b := range g.backends {
		var paths []string
		for _, s := range b.Seen() {
			paths = append(paths, s.Path)
		}
		expected := []string(nil)
		if name == w.at {
			expected = []string{w.path}
		}
		if !slices.Equal(paths, expected) {
			t.Errorf("back end %s saw %q, want %q", name, paths, expected)
		}
	}
	return r
}

// reached returns the one request that reached a back end.
func (g *gateway) reached(t *testing.T, backend string) envoytest.Seen {
	t.Helper()
	seen := g.backends[backend].Seen()
	if len(seen) != 1 {
		t.Fatalf("%d requests reached %s, want 1", len(seen), backend)
	}
	return seen[0]
}

// get sends GET as HTTP/1.1.
func (g *gateway) get(t *testing.T, target string, lines ...string) envoytest.Reply {
	t.Helper()
	return envoytest.Get(t, g.addr, target, host, lines...)
}

// problem is the JSON body of a refusal, Envoy's own or authz's.
type problem struct {
	Code        string `json:"code"`
	Message     string `json:"message"`
	Description string `json:"description"`
	RequestID   any    `json:"request_id"`
}

// refusal reads the body of a refusal.
func refusal(t *testing.T, r envoytest.Reply) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(r.Body), &p); err != nil {
		t.Errorf("body %q of %d: %v", r.Body, r.Status, err)
	}
	return p
}
