package xds

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// The trust domain of the tests.
const trustDomain = "gateways.test"

// logged is a log that a test reads.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) count(text string) int { return strings.Count(l.String(), text) }

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// fleet is an xds server of two groups behind mutual TLS.
type fleet struct {
	*running
	ca  *envoytest.CA
	log *logged
}

func newFleet(t testing.TB, c *catalog, change ...func(*Options)) *fleet {
	t.Helper()
	f := &fleet{ca: envoytest.NewCA(t), log: &logged{}}
	pair := f.ca.Issue(envoytest.Leaf{
		URI: "spiffe://" + trustDomain + "/xds/xds-1", DNS: []string{"xds.test"}, IP: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	f.running = serveTLS(t, c, f.ca.Server(pair), append([]func(*Options){func(o *Options) {
		o.TrustDomain, o.Logger = trustDomain, f.log.logger()
		second := o.Groups[0]
		second.Name = "other"
		o.Groups = append(o.Groups, second)
	}}, change...)...)
	f.waitReady()
	return f
}

// client is a model of an Envoy with a certificate of identity uri.
func (f *fleet) client(t testing.TB, leaf envoytest.Leaf) *client {
	t.Helper()
	c := newClient(t, f.addr, "n")
	c.creds = credentials.NewTLS(&tls.Config{
		RootCAs: f.ca.Pool(), Certificates: []tls.Certificate{f.ca.Issue(leaf).TLS(t)}, MinVersion: tls.VersionTLS13,
	})
	return c
}

func gatewayID(group, node string) string {
	return fmt.Sprintf("spiffe://%s/gateway/%s/%s", trustDomain, group, node)
}

func (f *fleet) node(group, id string) (n keymanager.NodeState, ok bool) {
	for _, n := range f.gateways.state("xds-1/" + group).Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return n, false
}

// An Envoy gets what its certificate says, or nothing at all.
func TestIdentity(t *testing.T) {
	f := newFleet(t, newCatalog(api("pets")))
	stranger := envoytest.NewCA(t)
	for _, tt := range []struct {
		name  string
		leaf  envoytest.Leaf
		by    *envoytest.CA
		none  bool // no certificate at all
		id    string
		group string
		code  codes.Code
		says  []string
	}{
		{name: "another group", leaf: envoytest.Leaf{URI: gatewayID("default", "n")}, id: "n", group: "other",
			code: codes.PermissionDenied, says: []string{`node "n" of group "other"`, `node "n" of group "default"`}},
		{name: "another node", leaf: envoytest.Leaf{URI: gatewayID("default", "n")}, id: "m", group: "default",
			code: codes.PermissionDenied, says: []string{`node "m" of group "default"`, `node "n" of group "default"`}},
		{name: "an authz", leaf: envoytest.Leaf{URI: "spiffe://" + trustDomain + "/authz/default/n"}, id: "n", group: "default",
			code: codes.PermissionDenied, says: []string{"authz/default/n", "not of a gateway"}},
		{name: "another xds", leaf: envoytest.Leaf{URI: "spiffe://" + trustDomain + "/xds/n"}, id: "n", group: "default",
			code: codes.PermissionDenied, says: []string{"not of a gateway"}},
		{name: "another trust domain", leaf: envoytest.Leaf{URI: "spiffe://elsewhere.test/gateway/default/n"}, id: "n", group: "default",
			code: codes.PermissionDenied, says: []string{"elsewhere.test"}},
		{name: "no identity", leaf: envoytest.Leaf{DNS: []string{"n"}}, id: "n", group: "default",
			code: codes.PermissionDenied, says: []string{"no URI"}},
		{name: "unknown group", leaf: envoytest.Leaf{URI: gatewayID("third", "n")}, id: "n", group: "third",
			code: codes.NotFound, says: []string{`no gateway group "third"`}},
		{name: "no certificate", none: true, id: "n", group: "default", code: codes.Unavailable},
		{name: "expired", leaf: envoytest.Leaf{URI: gatewayID("default", "n"), NotAfter: time.Now().Add(-time.Minute)},
			id: "n", group: "default", code: codes.Unavailable},
		{name: "of another authority", leaf: envoytest.Leaf{URI: gatewayID("default", "n")}, by: stranger,
			id: "n", group: "default", code: codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := f.client(t, tt.leaf)
			config := &tls.Config{RootCAs: f.ca.Pool(), MinVersion: tls.VersionTLS13}
			switch {
			case tt.none:
				c.creds = credentials.NewTLS(config)
			case tt.by != nil:
				config.Certificates = []tls.Certificate{tt.by.Issue(tt.leaf).TLS(t)}
				c.creds = credentials.NewTLS(config)
			}
			c.id, c.group = tt.id, tt.group
			err := c.refused()
			if status.Code(err) != tt.code {
				t.Fatalf("got %v, want %v", err, tt.code)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v does not say %q", err, s)
				}
			}
		})
	}
	if resources, responses := f.sent(); resources+responses != 0 {
		t.Errorf("%d resources in %d responses went to who was refused", resources, responses)
	}
	// Who asks for another's configuration is shown by the name that is certain.
	eventually(t, func() error {
		n, ok := f.node("default", "n")
		if !ok || n.Connected || len(n.Rejected) != 1 || !strings.Contains(n.Rejected[0].Reason, `certificate of node "n"`) {
			return fmt.Errorf("node %+v", n)
		}
		return nil
	})
	for _, group := range []string{"default", "other"} {
		good := f.client(t, envoytest.Leaf{URI: gatewayID(group, "n")})
		good.group = group
		good.connect()
		eventually(t, func() error {
			if good.versions(scopes)[group+"/pets"] == "" {
				return fmt.Errorf("%s has %v", group, good.versions(scopes))
			}
			return nil
		})
	}
	eventually(t, func() error { // no longer refused
		if n, ok := f.node("default", "n"); !ok || !n.Connected || len(n.Rejected) != 0 {
			return fmt.Errorf("node %+v", n)
		}
		return nil
	})
}

// refused opens a stream and returns how it ends, without an answer.
func (c *client) refused() error {
	c.t.Helper()
	if err := c.open(); err != nil {
		return err
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{Node: c.node(), TypeUrl: clusters.url()})
	m, err := c.stream.Recv()
	if err == nil {
		c.t.Errorf("an answer: %v", m)
	}
	return err
}

// In clear text only this machine is served, whatever it says of itself; and
// without a trust domain no certificate is good.
func TestIdentityOfAConnection(t *testing.T) {
	s := &Server{opts: Options{TrustDomain: trustDomain}}
	at := func(a net.Addr, info credentials.AuthInfo) context.Context {
		return grpcpeer.NewContext(t.Context(), &grpcpeer.Peer{Addr: a, AuthInfo: info})
	}
	for _, tt := range []struct {
		name string
		ctx  context.Context
		ok   bool
	}{
		{"a socket", at(&net.UnixAddr{Net: "unix"}, nil), true},
		{"loopback", at(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil), true},
		{"loopback 6", at(&net.TCPAddr{IP: net.IPv6loopback}, nil), true},
		{"a network", at(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, nil), false},
		{"a name", at(&net.IPAddr{}, nil), false},
		{"nobody", t.Context(), false},
		{"TLS without a certificate", at(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, credentials.TLSInfo{}), false},
	} {
		if _, err := s.identify(tt.ctx); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	f := newFleet(t, newCatalog(api("pets")), func(o *Options) { o.TrustDomain = "" })
	c := f.client(t, envoytest.Leaf{URI: gatewayID("default", "n")})
	if err := c.refused(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("without a trust domain: %v", err)
	}
}

// One line a minute for who comes again and again, and an Envoy that is too old
// is shown with the reason.
func TestRefusalsAreSeenOnce(t *testing.T) {
	log := &logged{}
	var mu sync.Mutex
	now := time.Now()
	r := serve(t, newCatalog(api("pets")), func(o *Options) {
		o.Logger, o.StreamBurst = log.logger(), 1000
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	}).waitReady()
	old := func() {
		c := newClient(t, r.addr, "n")
		c.dial()
		n := c.node()
		n.GetUserAgentBuildVersion().GetVersion().MinorNumber = 39
		c.send(&discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: clusters.url()})
		if _, err := c.stream.Recv(); status.Code(err) != codes.FailedPrecondition {
			t.Fatal(err)
		}
	}
	for range 30 {
		old()
	}
	if n := log.count("Envoy refused"); n != 1 {
		t.Errorf("%d lines for 30 refusals", n)
	}
	mu.Lock()
	now = now.Add(2 * refusalLine)
	mu.Unlock()
	old()
	if n := log.count("refused_since_last_line=29"); n != 1 || log.count("Envoy refused") != 2 {
		t.Errorf("after a while:\n%s", log)
	}
	eventually(t, func() error {
		for _, n := range r.gateways.state("xds-1").Nodes {
			if n.ID == "n" && !n.Connected && n.Version == "1.39.0" && len(n.Rejected) == 1 && strings.Contains(n.Rejected[0].Reason, "want 1.40.0") {
				return nil
			}
		}
		return fmt.Errorf("nodes %+v", r.gateways.state("xds-1").Nodes)
	})
}

// Who opens stream after stream is sent away, and nobody else with it.
func TestStreamRate(t *testing.T) {
	f := newFleet(t, newCatalog(api("pets")), func(o *Options) { o.StreamRate, o.StreamBurst = 0.001, 3 })
	greedy := f.client(t, envoytest.Leaf{URI: gatewayID("default", "n")})
	for i := range 3 {
		greedy.connect()
		eventually(t, func() error {
			greedy.mu.Lock()
			defer greedy.mu.Unlock()
			if greedy.responses[clusters] != i+1 {
				return fmt.Errorf("%d answers in %d streams", greedy.responses[clusters], i+1)
			}
			return nil
		})
	}
	if err := greedy.connect().ended(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the fourth stream: %v", err)
	}
	other := f.client(t, envoytest.Leaf{URI: gatewayID("default", "m")})
	other.id = "m"
	other.connect()
	eventually(t, func() error {
		if other.versions(scopes)["default/pets"] == "" {
			return fmt.Errorf("nothing yet")
		}
		return nil
	})
}

// An Envoy that comes back is served although its old stream lingers; two that
// stay under one id are told apart from that by time, and reported.
func TestTwoEnvoysOfOneID(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	r := serve(t, newCatalog(api("pets")), func(o *Options) {
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	}).waitReady()
	one, two := newClient(t, r.addr, "n").connect(), newClient(t, r.addr, "n").connect()
	r.waitSame(one)
	r.waitSame(two)
	r.waitConfirmed(keymanager.Position{Epoch: r.catalog.epoch, Seq: 1})
	row := func() (n keymanager.NodeState) {
		for _, n = range r.gateways.state("xds-1").Nodes {
			if n.ID == "n" {
				return n
			}
		}
		return n
	}
	eventually(t, func() error {
		if n := row(); !n.Connected || len(n.Rejected) > 0 || n.Acknowledged.Seq != 1 {
			return fmt.Errorf("row %+v", n)
		}
		return nil
	})
	mu.Lock()
	now = now.Add(2 * lingers)
	mu.Unlock()
	eventually(t, func() error {
		if n := row(); len(n.Rejected) != 1 || !strings.Contains(n.Rejected[0].Reason, "2 Envoys") {
			return fmt.Errorf("row %+v", n)
		}
		return nil
	})
	// Together they have what the slower one has.
	one.mu.Lock()
	one.silent[scopes] = true
	one.mu.Unlock()
	before := row().Acknowledged
	r.catalog.put(api("birds"))
	r.waitHas(two, scopes, "default/birds")
	if n := row(); n.Acknowledged != before {
		t.Errorf("acknowledged %v, but one of the two has only %v", n.Acknowledged, before)
	}
	one.disconnect()
	eventually(t, func() error {
		if n := row(); len(n.Rejected) != 0 || n.Acknowledged == before {
			return fmt.Errorf("row %+v", n)
		}
		return nil
	})
}

// waitHas waits until the client has a resource.
func (r *running) waitHas(c *client, k kind, name string) {
	r.t.Helper()
	eventually(r.t, func() error {
		if c.versions(k)[name] == "" {
			return fmt.Errorf("no %s in %v", name, c.versions(k))
		}
		return nil
	})
}
