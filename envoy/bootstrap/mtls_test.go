//go:build !short

package bootstrap_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
)

// identity is the Envoy's own, and what xds and authz are called.
const (
	identity      = "spiffe://example.org/gateway/edge/gw-1"
	xdsIdentity   = "spiffe://example.org/xds/xds-1"
	authzIdentity = "spiffe://example.org/authz/edge/authz-1"
)

// fleet is an xds and an authz on the network, and the certificate of the
// Envoy that talks to them.
type fleet struct {
	t          *testing.T
	ca         *authority
	xds, authz *secured
	mount      bootstrap.TLS
	own        pair // of the Envoy
}

func newFleet(t *testing.T, xdsNames, authzNames []string) *fleet {
	t.Helper()
	f := &fleet{t: t, ca: newAuthority(t)}
	f.xds, f.authz = secure(t, f.ca.issue(t, xdsNames...)), secure(t, f.ca.issue(t, authzNames...))
	f.own = f.ca.issue(t, identity)
	f.mount = newMount(t, f.own)
	(&checks{}).serve(t, f.authz)
	serveXDS(t, f.xds)
	return f
}

// serveXDS gives every node the gateway's listener, and no cluster.
func serveXDS(t *testing.T, lis *secured) {
	t.Helper()
	l := new(listenerv3.Listener)
	if err := protojson.Unmarshal([]byte(gatewayListener), l); err != nil {
		t.Fatal(err)
	}
	packed, err := anypb.New(l)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, &oneListener{
		resource: &discoveryv3.Resource{Name: l.GetName(), Version: "1", Resource: packed},
	})
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			t.Errorf("xds: %v", err)
		}
	})
	t.Cleanup(func() {
		s.Stop()
		wait.Wait()
	})
}

// oneListener is an xds with one listener and nothing else.
type oneListener struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	resource *discoveryv3.Resource
}

func (x *oneListener) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if req.GetResponseNonce() != "" {
			continue // an acknowledgement
		}
		res := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl(), Nonce: req.GetTypeUrl()}
		if req.GetTypeUrl() == "type.googleapis.com/envoy.config.listener.v3.Listener" {
			res.Resources = []*discoveryv3.Resource{x.resource}
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
}

// start starts the Envoy; change is told of the bootstrap's options.
func (f *fleet) start(wait bool, change func(*bootstrap.Options)) *envoytest.Envoy {
	f.t.Helper()
	opts := envoytest.Options{NodeID: "gw-1", Group: "edge", Bootstrap: func(o *bootstrap.Options) {
		o.XDSServers.Addresses = []string{f.xds.Addr().String()}
		o.AuthzServers.Addresses = []string{f.authz.Addr().String()}
		o.TLS = f.mount
		o.Health = "127.0.0.1:0"
		if change != nil {
			change(o)
		}
	}}
	if wait {
		opts.Listeners = []string{"tcp-0", "health"}
	}
	return envoytest.Start(f.t, opts)
}

// answers calls the gateway until it says want.
func (f *fleet) answers(e *envoytest.Envoy, want int) {
	f.t.Helper()
	envoytest.Eventually(f.t, func() error {
		if r := envoytest.Get(f.t, e.Addr("tcp-0"), "/", "localhost"); r.Status != want {
			return fmt.Errorf("status %d, want %d", r.Status, want)
		}
		return nil
	})
}

// An Envoy finds xds and authz on the network, proves itself to both, and takes
// up new certificates, of another authority too, without a restart.
func TestMutualTLS(t *testing.T) {
	for name, change := range map[string]func(*bootstrap.Options){
		"servers by address": nil,
		"servers by role":    func(o *bootstrap.Options) { o.TLS.TrustDomain = "example.org" },
		"servers by a name that is resolved": func(o *bootstrap.Options) {
			for _, s := range []*bootstrap.Servers{&o.XDSServers, &o.AuthzServers} {
				s.Addresses[0] = strings.Replace(s.Addresses[0], "127.0.0.1", "localhost", 1)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, []string{xdsIdentity, "127.0.0.1", "localhost"}, []string{authzIdentity, "127.0.0.1", "localhost"})
			e := f.start(true, change)
			f.answers(e, http.StatusOK)
			envoytest.Eventually(t, func() error {
				if r := envoytest.Get(t, e.Addr("health"), "/healthz", "localhost"); r.Status != http.StatusOK {
					return fmt.Errorf("/healthz is %d", r.Status)
				}
				return nil
			})
			for name, s := range map[string]*secured{"xds": f.xds, "authz": f.authz} {
				if got := s.identities(); !slices.Contains(got, identity) {
					t.Errorf("%s saw %v", name, got)
				}
			}
			f.renew(e)
		})
	}
}

// renew replaces the Envoy's certificate, then every authority.
func (f *fleet) renew(e *envoytest.Envoy) {
	f.t.Helper()
	for i, ca := range []*authority{f.ca, newAuthority(f.t)} {
		names := []string{xdsIdentity, authzIdentity, "127.0.0.1", "localhost"}
		f.xds.use(f.t, ca.issue(f.t, names...))
		f.authz.use(f.t, ca.issue(f.t, names...))
		p := ca.issue(f.t, identity)
		rotate(f.t, f.mount, fmt.Sprintf("..%d", i), p)
		serial := p.serial(f.t)
		for _, s := range []*secured{f.xds, f.authz} {
			envoytest.Eventually(f.t, func() error {
				s.cut() // live connections keep what they began with
				envoytest.Get(f.t, e.Addr("tcp-0"), "/", "localhost")
				if got := s.last(); got != serial {
					return fmt.Errorf("rotation %d: the last connection came with certificate %s, want %s", i, got, serial)
				}
				return nil
			})
		}
		f.answers(e, http.StatusOK)
		envoytest.Eventually(f.t, func() error {
			if e.Stat("control_plane.connected_state") != 1 {
				return errors.New("no stream to xds")
			}
			return nil
		})
	}
}

// Who is not the expected one gets no stream and no request, whoever signed its
// certificate.
func TestServersThatAreNotWhoTheyShouldBe(t *testing.T) {
	byRole := func(o *bootstrap.Options) { o.TLS.TrustDomain = "example.org" }
	for name, tc := range map[string]struct {
		xds    []string
		change func(*bootstrap.Options)
	}{
		"another name":          {[]string{xdsIdentity, "other.internal"}, func(o *bootstrap.Options) { o.XDSServers.Name = "xds.internal" }},
		"another address":       {[]string{xdsIdentity, "127.0.0.2"}, nil},
		"another role":          {[]string{authzIdentity, "127.0.0.1"}, byRole},
		"another trust domain":  {[]string{"spiffe://example.com/xds/xds-1", "127.0.0.1"}, byRole},
		"a role that begins so": {[]string{"spiffe://example.org/xds-2/x", "127.0.0.1"}, byRole},
	} {
		t.Run("xds: "+name, func(t *testing.T) {
			f := newFleet(t, tc.xds, []string{authzIdentity, "127.0.0.1"})
			e := f.start(false, tc.change)
			envoytest.Eventually(t, func() error {
				if n := e.Stat("cluster.xds_cluster.ssl.fail_verify_san"); n < 2 {
					return fmt.Errorf("%d refusals", n)
				}
				return nil
			})
			if s := e.State(); s != "PRE_INITIALIZING" && s != "INITIALIZING" {
				t.Errorf("its state is %s", s)
			}
		})
	}
	for name, tc := range map[string]struct {
		authz  []string
		change func(*bootstrap.Options)
	}{
		"another name":  {[]string{authzIdentity, "other.internal"}, func(o *bootstrap.Options) { o.AuthzServers.Name = "authz.internal" }},
		"another group": {[]string{"spiffe://example.org/authz/other/authz-1"}, byRole},
	} {
		t.Run("authz: "+name, func(t *testing.T) {
			f := newFleet(t, []string{xdsIdentity, "127.0.0.1"}, tc.authz)
			e := f.start(true, tc.change)
			f.answers(e, http.StatusServiceUnavailable)
			if e.Stat("cluster.authz.ssl.fail_verify_san") == 0 || e.Stat("cluster.authz.upstream_rq_total") != 0 {
				t.Errorf("%v", e.Stats(`^cluster\.authz\.(ssl|upstream_rq)`))
			}
			if r := envoytest.Get(t, e.Addr("health"), "/healthz", "localhost"); r.Status != http.StatusServiceUnavailable {
				t.Errorf("/healthz is %d with no authz", r.Status)
			}
		})
	}
	t.Run("xds: another authority", func(t *testing.T) {
		f := newFleet(t, []string{xdsIdentity, "127.0.0.1"}, []string{authzIdentity, "127.0.0.1"})
		f.xds.use(t, newAuthority(t).issue(t, xdsIdentity, "127.0.0.1"))
		e := f.start(false, nil)
		envoytest.Eventually(t, func() error {
			if n := e.Stat("cluster.xds_cluster.ssl.fail_verify_error"); n < 1 {
				return fmt.Errorf("%d refusals", n)
			}
			return nil
		})
	})
}

// What docs/envoy-deployments.md says of files that are not there.
func TestMissingFiles(t *testing.T) {
	names := []string{xdsIdentity, authzIdentity, "127.0.0.1"}
	t.Run("an SDS file ends the start", func(t *testing.T) {
		f := newFleet(t, names, names)
		if err := os.Remove(f.mount.SDSDir + "/client.yaml"); err != nil {
			t.Fatal(err)
		}
		raw, err := bootstrap.Render(bootstrap.Options{
			NodeID: "gw-1", Group: "edge", XDSServers: bootstrap.Servers{Addresses: []string{f.xds.Addr().String()}},
			Authz: "/tmp/nobody.sock", TLS: f.mount,
		})
		if err != nil {
			t.Fatal(err)
		}
		ends(t, raw, "client.yaml")
	})
	t.Run("a certificate that comes later", func(t *testing.T) {
		f := newFleet(t, names, names)
		if err := os.Remove(f.mount.CertFile); err != nil {
			t.Fatal(err)
		}
		e := f.start(false, nil)
		envoytest.Eventually(t, func() error {
			if s := e.State(); s != "PRE_INITIALIZING" {
				return errors.New(s)
			}
			return nil
		})
		if n := e.Stat("control_plane.connected_state"); n != 0 {
			t.Errorf("connected without a certificate")
		}
		if err := os.Symlink("..data/tls.crt", f.mount.CertFile); err != nil {
			t.Fatal(err)
		}
		rotate(t, f.mount, "..later", f.own)
		e.WaitReady("tcp-0")
	})
	t.Run("a certificate with the key of another", func(t *testing.T) {
		f := newFleet(t, names, names)
		e := f.start(true, nil)
		mixed := f.ca.issue(t, identity)
		mixed.key = f.own.key
		rotate(t, f.mount, "..mixed", mixed)
		envoytest.Eventually(t, func() error {
			for stat, n := range e.Stats(`tollgate_client.*(key_rotation_failed|update_rejected)$`) {
				if n > 0 {
					t.Logf("%s: %d", stat, n)
					return nil
				}
			}
			return errors.New("nobody has noticed")
		})
		f.authz.cut()
		f.answers(e, http.StatusOK) // with the old one
		if f.authz.last() != f.own.serial(t) {
			t.Error("the mixed pair was used")
		}
	})
}
