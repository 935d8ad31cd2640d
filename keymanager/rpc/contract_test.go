package rpc_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/keymanagertest/inprocess"
	"tollgate/keymanager/peertest"
	"tollgate/keymanager/rpc"
)

// The wires of the tests leave goroutines behind when they are cut; this
// package must not.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
	)
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// TestContract runs the contract over the network: as in process, the caller
// cannot tell.
func TestContract(t *testing.T) {
	ca := peertest.CA(t)
	plaintext := func(network string) func(*testing.T, contracts) contracts {
		return func(t *testing.T, k contracts) contracts {
			c := dial(t, rpc.ClientOptions{Targets: []string{listen(t, network, k)}})
			return contracts{c, c, c, c}
		}
	}
	for name, connect := range map[string]func(*testing.T, contracts) contracts{
		"unix socket": plaintext("unix"),
		"loopback":    plaintext("tcp"),
		"TLS": func(t *testing.T, k contracts) contracts {
			server := grpc.Creds(credentials.NewTLS(ca.Server("keymanager/km-1").ServerTLS()))
			target := listen(t, "tcp", k, server)
			as := func(peer string) *rpc.Client {
				return dial(t, rpc.ClientOptions{Targets: []string{target}, TLS: ca.Client(peer).ClientTLS(), TrustDomain: peertest.TrustDomain})
			}
			c := as("authz/eu/1")
			return contracts{c, c, c, reporters{c, as("xds/1")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			keymanagertest.Run(t, func(t *testing.T) *keymanagertest.Subject {
				s := inprocess.OnSQLite(t)
				remote := *s
				c := connect(t, contracts{s.Validator, s.Catalog, s.Revocations, s.Gateways})
				remote.Validator, remote.Catalog, remote.Revocations, remote.Gateways = c, c, c, c.Gateways
				return &remote
			})
		})
	}
}

// reporters let each kind report with its own certificate: an authz of the
// group eu, and an xds.
type reporters struct{ authz, xds keymanager.Gateways }

func (r reporters) Report(ctx context.Context, s keymanager.GatewayState) error {
	if s.Kind == keymanager.GatewayAuthz {
		s.Group = "eu"
		return r.authz.Report(ctx, s)
	}
	return r.xds.Report(ctx, s)
}

// contracts is what a server answers for.
type contracts struct {
	keymanager.Validator
	keymanager.Catalog
	keymanager.Revocations
	keymanager.Gateways
}

// listen serves k until the test ends, and returns the target.
func listen(t testing.TB, network string, k contracts, opts ...grpc.ServerOption) string {
	t.Helper()
	return serve(t, listener(t, network), k, opts...).target
}

func listener(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = socket(t)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// served is a server that runs.
type served struct {
	target string
	rpc    *rpc.Server
	grpc   *grpc.Server
}

func serve(t testing.TB, l net.Listener, k contracts, opts ...grpc.ServerOption) *served {
	t.Helper()
	return serveWith(t, l, rpc.ServerOptions{
		Validator: k, Catalog: k, Revocations: k, Gateways: k, TrustDomain: peertest.TrustDomain,
	}, opts...)
}

func serveWith(t testing.TB, l net.Listener, o rpc.ServerOptions, opts ...grpc.ServerOption) *served {
	t.Helper()
	s, err := rpc.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(append(rpc.GRPCOptions(), opts...)...)
	s.Register(g)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // before it had begun
			t.Error(err)
		}
	})
	return &served{l.Addr().String(), s, g}
}

// dial returns a client that is patient unless o says otherwise.
func dial(t testing.TB, o rpc.ClientOptions) *rpc.Client {
	t.Helper()
	if o.TryTimeout == 0 {
		o.TryTimeout = patience
	}
	if o.Silence == 0 {
		o.Silence = patience
	}
	c, err := rpc.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// socket returns the path for a Unix socket, which must be short.
func socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "km.sock")
}
