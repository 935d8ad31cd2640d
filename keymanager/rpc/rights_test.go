package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/peertest"
	"tollgate/keymanager/rpc"
)

var errEnough = errors.New("enough")

// calls is every method of the service, through a client. Nil: it was served.
var calls = map[string]func(ctx context.Context, c *rpc.Client) error{
	"Validate": func(ctx context.Context, c *rpc.Client) error {
		_, err := c.Validate(ctx, keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: "x"}, API: "a"})
		return err
	},
	"Watch": func(ctx context.Context, c *rpc.Client) error {
		return served1(c.Watch(ctx, keymanager.Position{}, []keymanager.CatalogKind{keymanager.CatalogAPI}, func(keymanager.Change) error { return errEnough }))
	},
	"Follow": func(ctx context.Context, c *rpc.Client) error {
		return served1(c.Follow(ctx, keymanager.Position{}, func(keymanager.Event) error { return errEnough }))
	},
	"Report authz eu/a": report(keymanager.GatewayAuthz, "eu", "a"),
	"Report authz eu/b": report(keymanager.GatewayAuthz, "eu", "b"),
	"Report authz us/a": report(keymanager.GatewayAuthz, "us", "a"),
	"Report authz /a":   report(keymanager.GatewayAuthz, "", "a"),
	"Report xds eu/a":   report(keymanager.GatewayXDS, "eu", "a"),
	"Report xds us/x":   report(keymanager.GatewayXDS, "us", "x"),
}

func served1(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func report(kind keymanager.GatewayKind, group, id string) func(context.Context, *rpc.Client) error {
	return func(ctx context.Context, c *rpc.Client) error {
		return c.Report(ctx, keymanager.GatewayState{Kind: kind, Group: group, ID: id, Phase: keymanager.PhaseLive})
	}
}

func fake(t testing.TB) (*keymanagertest.KeyManager, contracts) {
	t.Helper()
	k := keymanagertest.New(keymanagertest.Options{Heartbeat: 20 * time.Millisecond}, keymanagertest.SampleAPI("a"))
	return k, contracts{k, k, k, k}
}

func tlsServer(t testing.TB, k contracts, cfg *tls.Config) string {
	t.Helper()
	return listen(t, "tcp", k, grpc.Creds(credentials.NewTLS(cfg)))
}

// TestRights is the table of who may call what.
func TestRights(t *testing.T) {
	ca := peertest.CA(t)
	_, k := fake(t)
	target := tlsServer(t, k, ca.Server("keymanager/km").ServerTLS())
	streams := []string{"Watch", "Follow"}
	for _, tt := range []struct {
		peer string
		may  []string
	}{
		{"authz/eu/a", append([]string{"Validate", "Report authz eu/a"}, streams...)},
		{"authz/us/a", append([]string{"Validate", "Report authz us/a"}, streams...)},
		{"xds/x", []string{"Watch", "Report xds eu/a", "Report xds us/x"}},
		{"gateway/eu/a", nil},
		{"keymanager/km-2", nil},
	} {
		t.Run(tt.peer, func(t *testing.T) {
			c := dial(t, rpc.ClientOptions{Targets: []string{target}, TLS: ca.Client(tt.peer).ClientTLS(), TrustDomain: peertest.TrustDomain})
			for name, call := range calls {
				err := call(t.Context(), c)
				if may := slices.Contains(tt.may, name); may && err != nil {
					t.Errorf("%s: %v", name, err)
				} else if !may && (err == nil || keymanager.KindOf(err) != keymanager.KindForbidden) {
					t.Errorf("%s: %v, want that it is forbidden", name, err)
				}
			}
		})
	}
	t.Run("on the same machine", func(t *testing.T) {
		for _, network := range []string{"unix", "tcp"} {
			c := dial(t, rpc.ClientOptions{Targets: []string{listen(t, network, k)}})
			for name, call := range calls {
				if err := call(t.Context(), c); err != nil {
					t.Errorf("%s, %s: %v", network, name, err)
				}
			}
		}
	})
}

// TestIdentity: who is not known is not served, and a server that is not a key
// manager is not asked.
func TestIdentity(t *testing.T) {
	ca, foreign := peertest.CA(t), peertest.CA(t)
	_, k := fake(t)
	good := ca.Server("keymanager/km")
	past := time.Now().Add(-time.Hour)
	// A server refuses a certificate after the handshake of TLS 1.3: the client
	// sees a connection that broke, and not always why.
	for _, tt := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
		domain string // the client's; "" = the usual
		kind   keymanager.Kind
		want   string
	}{
		{name: "as it should be", server: good.ServerTLS(), client: ca.Client("authz/eu/a").ClientTLS()},
		{"no certificate", good.ServerTLS(), &tls.Config{RootCAs: ca.Pool()}, "", keymanager.KindUnavailable, ""},
		{"a certificate of others", good.ServerTLS(), withRoots(foreign.Client("authz/eu/a").ClientTLS(), ca), "", keymanager.KindUnavailable, ""},
		{"an expired certificate", good.ServerTLS(), ca.Issue(peertest.Leaf{Peer: "authz/eu/a", NotBefore: past.Add(-time.Hour), NotAfter: past}).ClientTLS(), "", keymanager.KindUnavailable, ""},
		{"a certificate of tomorrow", good.ServerTLS(), ca.Issue(peertest.Leaf{Peer: "authz/eu/a", NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}).ClientTLS(), "", keymanager.KindUnavailable, ""},
		{"another trust domain", good.ServerTLS(), ca.Issue(peertest.Leaf{Peer: "authz/eu/a", TrustDomain: "elsewhere.test"}).ClientTLS(), "", keymanager.KindForbidden, "elsewhere.test"},
		{"two identities", good.ServerTLS(), ca.Issue(peertest.Leaf{URIs: []string{"spiffe://tollgate.test/authz/eu/a", "spiffe://tollgate.test/xds/x"}}).ClientTLS(), "", keymanager.KindForbidden, "2 URIs"},
		{"no identity", good.ServerTLS(), ca.Issue(peertest.Leaf{URIs: []string{}, Hosts: []string{"authz"}}).ClientTLS(), "", keymanager.KindForbidden, "no URI"},
		{"an unknown role", good.ServerTLS(), ca.Client("portal/p").ClientTLS(), "", keymanager.KindForbidden, "portal"},
		{"the server is an xds", ca.Server("xds/x").ServerTLS(), ca.Client("authz/eu/a").ClientTLS(), "", keymanager.KindUnavailable, "not a key manager"},
		{"the server is an authz", ca.Server("authz/eu/b").ServerTLS(), ca.Client("authz/eu/a").ClientTLS(), "", keymanager.KindUnavailable, "not a key manager"},
		{"the server of others", foreign.Server("keymanager/km").ServerTLS(), ca.Client("authz/eu/a").ClientTLS(), "", keymanager.KindUnavailable, "certificate"},
		{"the server for another name", ca.Issue(peertest.Leaf{Peer: "keymanager/km", Hosts: []string{"km.example"}}).ServerTLS(), ca.Client("authz/eu/a").ClientTLS(), "", keymanager.KindUnavailable, "certificate"},
		{"the server of another domain", ca.Issue(peertest.Leaf{Peer: "keymanager/km", TrustDomain: "elsewhere.test", Hosts: []string{"127.0.0.1"}}).ServerTLS(), ca.Client("authz/eu/a").ClientTLS(), "", keymanager.KindUnavailable, "elsewhere.test"},
		{"the client of another domain", good.ServerTLS(), ca.Client("authz/eu/a").ClientTLS(), "elsewhere.test", keymanager.KindUnavailable, "tollgate.test"},
		{"an older TLS", withVersion(good.ServerTLS(), tls.VersionTLS12), ca.Client("authz/eu/a").ClientTLS(), "", keymanager.KindUnavailable, "protocol version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			domain := tt.domain
			if domain == "" {
				domain = peertest.TrustDomain
			}
			c := dial(t, rpc.ClientOptions{Targets: []string{tlsServer(t, k, tt.server)}, TLS: tt.client, TrustDomain: domain})
			for _, name := range []string{"Validate", "Follow"} {
				err := calls[name](t.Context(), c)
				if tt.want == "" && tt.kind == keymanager.KindInternal {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				if err == nil || keymanager.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %v; want kind %d and %q", name, err, tt.kind, tt.want)
				}
			}
		})
	}
}

func withRoots(cfg *tls.Config, ca *peertest.Authority) *tls.Config {
	cfg.RootCAs = ca.Pool()
	return cfg
}

func withVersion(cfg *tls.Config, v uint16) *tls.Config {
	cfg.MinVersion, cfg.MaxVersion = v, v
	return cfg
}

// remote is a listener whose peers seem to be on another machine.
type remote struct{ net.Listener }

func (r remote) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return remoteConn{c}, nil
}

type remoteConn struct{ net.Conn }

func (remoteConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }

// TestPlaintext: without TLS, another machine is neither served nor asked.
func TestPlaintext(t *testing.T) {
	_, k := fake(t)
	s := serve(t, remote{listener(t, "tcp")}, k)
	c := dial(t, rpc.ClientOptions{Targets: []string{s.target}})
	for name, call := range calls {
		if err := call(t.Context(), c); keymanager.KindOf(err) != keymanager.KindForbidden || !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ca := peertest.CA(t)
	for name, o := range map[string]rpc.ClientOptions{
		"no targets":                   {},
		"another machine":              {Targets: []string{"192.0.2.1:9000"}},
		"a name":                       {Targets: []string{"km.example:9000"}},
		"no port":                      {Targets: []string{"127.0.0.1"}},
		"port 0":                       {Targets: []string{"127.0.0.1:0"}},
		"a relative path":              {Targets: []string{"km.sock"}},
		"TLS, no trust domain":         {Targets: []string{"km.example:9000"}, TLS: ca.Client("xds/x").ClientTLS()},
		"TLS, no authorities":          {Targets: []string{"km.example:9000"}, TLS: &tls.Config{}, TrustDomain: "x"},
		"TLS that verifies nothing":    {Targets: []string{"km.example:9000"}, TLS: &tls.Config{RootCAs: ca.Pool(), InsecureSkipVerify: true}, TrustDomain: "x"},
		"TLS to a socket without name": {Targets: []string{"/run/km.sock"}, TLS: ca.Client("xds/x").ClientTLS(), TrustDomain: "x"},
		"a negative time":              {Targets: []string{"127.0.0.1:1"}, Silence: -1},
	} {
		if c, err := rpc.NewClient(o); err == nil {
			_ = c.Close()
			t.Errorf("%s: allowed", name)
		}
	}
}

// TestHealthAndNothingElse: grpc.health.v1 answers who may call anything, there
// is no reflection, and a path that names no method of ours is refused also
// when its form is wrong.
func TestHealthAndNothingElse(t *testing.T) {
	ca := peertest.CA(t)
	_, k := fake(t)
	target := tlsServer(t, k, ca.Server("keymanager/km").ServerTLS())
	for peer, want := range map[string]codes.Code{
		"authz/eu/a": codes.OK, "xds/x": codes.OK, "gateway/eu/a": codes.PermissionDenied, "keymanager/b": codes.PermissionDenied,
	} {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(credentials.NewTLS(ca.Client(peer).ClientTLS())))
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range []string{"", "tollgate.keymanager.v1.KeyManager"} {
			out, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if status.Code(err) != want || err == nil && out.Status != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("%s: %v, %v", peer, out, err)
			}
		}
		if err := conn.Invoke(t.Context(), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("reflection: %v", err)
		}
		_ = conn.Close()
	}
	for _, path := range []string{
		"tollgate.keymanager.v1.KeyManager/Validate", "", "Validate", "/Validate", "//tollgate.keymanager.v1.KeyManager/Validate",
		"/tollgate.keymanager.v1.KeyManager/Validate/", "/tollgate.keymanager.v1.KeyManager/validate", "*",
	} {
		if got := rawCall(t, target, ca.Client("authz/eu/a").ClientTLS(), path); got == "0" {
			t.Errorf("the path %q is served", path)
		}
	}
	if got := rawCall(t, target, ca.Client("authz/eu/a").ClientTLS(), "/tollgate.keymanager.v1.KeyManager/Validate"); got != "0" {
		t.Errorf("the right path is answered %q", got)
	}
	if got := rawCall(t, target, ca.Client("gateway/eu/a").ClientTLS(), "/tollgate.keymanager.v1.KeyManager/Validate"); got != "7" {
		t.Errorf("the right path from a gateway is answered %q", got)
	}
}

// rawCall sends an empty message to a path over HTTP/2 and returns the
// grpc-status, or how the stream ended.
func rawCall(t *testing.T, target string, cfg *tls.Config, path string) string {
	t.Helper()
	cfg.NextProtos = []string{"h2"}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", target, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "km"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}),
		framer.WriteData(1, true, []byte{0, 0, 0, 0, 0}),
	); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err.Error()
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == "grpc-status" {
					return h.Value
				}
			}
			if f.StreamEnded() {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			return f.ErrCode.String()
		case *http2.GoAwayFrame:
			return f.ErrCode.String()
		}
	}
}
