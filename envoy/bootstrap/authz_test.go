//go:build !short

package bootstrap_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
)

// checks is an authz on grpc-go, as the real one is. It allows everything, and
// answers when it is let.
type checks struct {
	authv3.UnimplementedAuthorizationServer
	gate    atomic.Pointer[chan struct{}] // closed = answer; nil = at once
	waiting atomic.Int64
	served  atomic.Int64
}

func (c *checks) Check(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	if gate := c.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.served.Add(1)
	return envoytest.OK(), nil
}

// serve runs the service on lis until the test ends or stop is called.
func (c *checks) serve(t *testing.T, lis net.Listener, opts ...grpc.ServerOption) (stop func()) {
	t.Helper()
	s := grpc.NewServer(append([]grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
		MinTime: 5 * time.Second, PermitWithoutStream: true, // as authz has it
	})}, opts...)...)
	authv3.RegisterAuthorizationServer(s, c)
	h := health.NewServer()
	h.SetServingStatus("envoy.service.auth.v3.Authorization", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, h)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			t.Errorf("authz: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		s.Stop()
		wait.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// secured is a TLS listener on a loopback port that remembers whom it has let
// in, can change its certificate, and can cut its connections.
type secured struct {
	net.Listener
	config atomic.Pointer[tls.Config]

	mu      sync.Mutex
	clients []string // serial numbers of the clients' certificates, in order
	names   []string // and their identities
	open    []net.Conn
}

func secure(t *testing.T, p pair) *secured {
	t.Helper()
	s := &secured{}
	s.use(t, p)
	s.Listener = tls.NewListener(remembering{listen(t, "tcp", "127.0.0.1:0"), s}, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.config.Load(), nil },
	})
	return s
}

// use changes the server's certificate for connections to come.
func (s *secured) use(t *testing.T, p pair) {
	t.Helper()
	config := p.server(t)
	config.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clients = append(s.clients, leaf.SerialNumber.String())
		for _, u := range leaf.URIs {
			s.names = append(s.names, u.String())
		}
		return nil
	}
	s.config.Store(config)
}

// last returns the serial number of the last client's certificate.
func (s *secured) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clients) == 0 {
		return ""
	}
	return s.clients[len(s.clients)-1]
}

// identities returns the URIs of the clients' certificates.
func (s *secured) identities() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

func (s *secured) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		_ = c.Close()
	}
	s.open = nil
}

// remembering hands the connections of a listener to secured.
type remembering struct {
	net.Listener
	to *secured
}

func (r remembering) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err == nil {
		r.to.mu.Lock()
		r.to.open = append(r.to.open, c)
		r.to.mu.Unlock()
	}
	return c, err
}

// gatewayListener is a listener on a port of Envoy's choice that answers 200
// itself once authz agrees.
const gatewayListener = `{
 "name": "tcp-0", "stat_prefix": "edge",
 "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
 "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
  "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
  "stat_prefix": "edge", "drain_timeout": "0.1s",
  "http2_protocol_options": {"max_concurrent_streams": 100000},
  "http_filters": [
   {"name": "tollgate.authz", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    "transport_api_version": "V3", "status_on_error": {"code": "ServiceUnavailable"},
    "grpc_service": {"timeout": "30s", "envoy_grpc": {"cluster_name": "authz"}}}},
   {"name": "envoy.filters.http.router", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
  "route_config": {"name": "local", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
   {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}]}]}
 }}]}]
}`

// withoutXDS gives Envoy the listener from the beginning, and lets change do
// more to the bootstrap.
func withoutXDS(t *testing.T, change func(static map[string]any)) func([]byte) []byte {
	return func(raw []byte) []byte {
		t.Helper()
		var doc map[string]any
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		var listener any
		if err := json.Unmarshal([]byte(gatewayListener), &listener); err != nil {
			t.Fatal(err)
		}
		delete(doc, "dynamic_resources")
		static := doc["static_resources"].(map[string]any)
		listeners, _ := static["listeners"].([]any)
		static["listeners"] = append(listeners, listener)
		if change != nil {
			change(static)
		}
		out, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// newGateway starts an Envoy with the listener, and the bootstrap's authz
// cluster behind it.
func newGateway(t *testing.T, authz string, workers int, options func(*bootstrap.Options), change func(static map[string]any)) *envoytest.Envoy {
	t.Helper()
	return envoytest.Start(t, envoytest.Options{
		XDS: "/tmp/nobody.sock", Authz: authz, Concurrency: workers, Listeners: []string{"tcp-0"},
		Bootstrap: options, Raw: withoutXDS(t, change),
	})
}
