package xds

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// pairOf is a certificate for listeners.
func pairOf(p envoytest.Pair) Certificate { return Certificate{CertPEM: p.Cert, KeyPEM: p.Key} }

// keyOf is what must never be seen of a pair.
func keyOf(t testing.TB, p envoytest.Pair) string {
	t.Helper()
	block, _ := pem.Decode(p.Key)
	if block == nil {
		t.Fatal("no key")
	}
	line, _, _ := bytes.Cut(p.Key[bytes.IndexByte(p.Key, '\n')+1:], []byte("\n"))
	return string(line)
}

// What Envoy would choke on, or take though it is of no use, is refused here.
func TestCertificateCheck(t *testing.T) {
	ca := envoytest.NewCA(t)
	good, second := ca.Issue(envoytest.Leaf{DNS: []string{"a.test"}}), ca.Issue(envoytest.Leaf{DNS: []string{"b.test"}})
	expired := ca.Issue(envoytest.Leaf{NotAfter: time.Now().Add(-time.Minute)})
	future := ca.Issue(envoytest.Leaf{NotBefore: time.Now().Add(time.Minute)})
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, ed := ca.Issue(envoytest.Leaf{Key: weak}), ca.Issue(envoytest.Leaf{Key: edwards})
	for _, tt := range []struct {
		name string
		c    Certificate
		says string // "" = good
	}{
		{"a pair", pairOf(good), ""},
		{"authorities", Certificate{CAPEM: ca.PEM}, ""},
		{"both", Certificate{CertPEM: good.Cert, KeyPEM: good.Key, CAPEM: ca.PEM}, ""},
		{"a chain", Certificate{CertPEM: append(bytes.Clone(good.Cert), ca.PEM...), KeyPEM: good.Key}, ""},
		{"nothing", Certificate{}, "neither"},
		{"no key", Certificate{CertPEM: good.Cert}, "go together"},
		{"no certificate", Certificate{KeyPEM: good.Key}, "go together"},
		{"another's key", Certificate{CertPEM: good.Cert, KeyPEM: second.Key}, "not of the certificate"},
		{"expired", pairOf(expired), "expired"},
		{"not yet", pairOf(future), "not valid before"},
		{"a short key", pairOf(small), "1024 bits"},
		{"a key that Envoy does not know", pairOf(ed), "Ed25519"},
		{"cut off", Certificate{CertPEM: good.Cert, KeyPEM: good.Key, CAPEM: ca.PEM[:len(ca.PEM)-40]}, "no PEM block"},
		{"the second cut off", Certificate{CAPEM: append(bytes.Clone(ca.PEM), ca.PEM[:200]...)}, "cut off"},
		{"a key among authorities", Certificate{CAPEM: append(bytes.Clone(ca.PEM), good.Key...)}, "another type"},
		{"not a certificate", Certificate{CAPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})}, "cannot be read"},
		{"too large", Certificate{CAPEM: make([]byte, maxPEM+1)}, "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.c.Check(time.Now())
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Fatalf("got %v, want an error about %q", err, tt.says)
			}
			if err != nil && len(tt.c.KeyPEM) > 0 && strings.Contains(err.Error(), keyOf(t, envoytest.Pair{Key: tt.c.KeyPEM})) {
				t.Error("the error shows the key")
			}
		})
	}
}

// Two spellings of a pair are one secret: replicas read files that may differ in
// comments and line ends.
func TestSecretsHaveOneSpelling(t *testing.T) {
	ca := envoytest.NewCA(t)
	p := ca.Issue(envoytest.Leaf{DNS: []string{"a.test"}})
	spoken := Certificate{
		CertPEM: append([]byte("subject: a.test\n"), bytes.ReplaceAll(p.Cert, []byte("\n"), []byte("\r\n"))...),
		KeyPEM:  append([]byte("the key\n"), p.Key...),
	}
	var versions []uint64
	for _, c := range []Certificate{pairOf(p), spoken} {
		l, err := c.load(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, v, err := encode(buildSecrets("a", l)[0])
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	if versions[0] != versions[1] {
		t.Error("two spellings make two secrets")
	}
}

// A bad successor changes nothing but the report.
func TestSetCertificatesKeepsTheLastGood(t *testing.T) {
	ca, log := envoytest.NewCA(t), &logged{}
	one, two := ca.Issue(envoytest.Leaf{DNS: []string{"a.test"}}), ca.Issue(envoytest.Leaf{DNS: []string{"a.test"}})
	r := serve(t, newCatalog(api("pets")), func(o *Options) {
		o.Logger = log.logger()
		o.Certificates = map[string]Certificate{"edge": pairOf(one)}
		o.Groups[0].Listeners[0].TLS = &ListenerTLS{Certificates: []string{"edge"}}
	}).waitReady()
	version := func() string { return r.current(secrets)["pair/edge"] }
	first := version()
	if first == "" {
		t.Fatal("no secret")
	}
	set := func(c Certificate) error { return r.SetCertificates(map[string]Certificate{"edge": c}) }
	reported := func(says string) {
		t.Helper()
		eventually(t, func() error {
			list := r.gateways.state("xds-1").Rejected
			if says == "" && len(list) == 0 {
				return nil
			}
			if says != "" && len(list) == 1 && list[0].Name == "edge" && strings.Contains(list[0].Reason, says) {
				return nil
			}
			return fmt.Errorf("reported %+v, want %q", list, says)
		})
	}
	for _, bad := range []struct {
		says string
		c    Certificate
	}{
		{"not of the certificate", Certificate{CertPEM: two.Cert, KeyPEM: one.Key}},
		{"expired", pairOf(ca.Issue(envoytest.Leaf{NotAfter: time.Now().Add(-time.Second)}))},
		{"no PEM block", Certificate{CertPEM: []byte("rubbish"), KeyPEM: two.Key}},
	} {
		if err := set(bad.c); err == nil || !strings.Contains(err.Error(), `"edge"`) || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v", bad.says, err)
		}
		reported(bad.says)
		if version() != first {
			t.Errorf("%s: the secret has changed", bad.says)
		}
	}
	if err := r.SetCertificates(map[string]Certificate{"a.b": pairOf(two)}); err == nil {
		t.Error("a name with a dot")
	}
	if err := r.SetCertificates(nil); err != nil || version() != first {
		t.Errorf("left out: %v", err)
	}
	if err := set(pairOf(two)); err != nil {
		t.Error(err)
	}
	reported("")
	eventually(t, func() error {
		if version() == first {
			return errors.New("the new pair does not arrive")
		}
		return nil
	})
	for _, p := range []envoytest.Pair{one, two} {
		if log.count(keyOf(t, p)) != 0 {
			t.Error("the log shows a key")
		}
	}
}

// asking is an Envoy that asks for secrets, and answers by hand.
type asking struct {
	*client
}

func newAsking(t testing.TB, addr string, names ...string) asking {
	t.Helper()
	a := asking{newClient(t, addr, "n")}
	a.dial()
	a.send(&discoveryv3.DeltaDiscoveryRequest{Node: a.node(), TypeUrl: secrets.url(), ResourceNamesSubscribe: names})
	return a
}

// next is the next secret.
func (a asking) next() (*discoveryv3.DeltaDiscoveryResponse, *tlsv3.Secret) {
	a.t.Helper()
	m, err := a.stream.Recv()
	if err != nil || len(m.GetResources()) != 1 || m.GetTypeUrl() != secrets.url() {
		a.t.Fatal(m, err)
	}
	s := new(tlsv3.Secret)
	if err := proto.Unmarshal(m.GetResources()[0].GetResource().GetValue(), s); err != nil {
		a.t.Fatal(err)
	}
	return m, s
}

func (a asking) answer(m *discoveryv3.DeltaDiscoveryResponse, reason string) {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secrets.url(), ResponseNonce: m.GetNonce()}
	if reason != "" {
		r.ErrorDetail = &rpcstatus.Status{Code: int32(codes.Internal), Message: reason}
	}
	a.send(r)
}

// Secrets go to who asks for them by name, and only what the group refers to;
// what Envoy says when it refuses one is never repeated.
func TestSecretsByName(t *testing.T) {
	ca, log := envoytest.NewCA(t), &logged{}
	edge, other := ca.Issue(envoytest.Leaf{}), ca.Issue(envoytest.Leaf{})
	certificates := map[string]Certificate{
		"edge": pairOf(edge), "other": pairOf(other), "clients": {CAPEM: ca.PEM},
	}
	r := serve(t, newCatalog(api("pets")), func(o *Options) {
		o.Logger, o.Certificates, o.RetryAfter = log.logger(), certificates, -1
		o.Groups[0].Listeners[0].TLS = &ListenerTLS{Certificates: []string{"edge"}, ClientCA: "clients"}
		second := o.Groups[0]
		second.Name, second.Listeners = "second", []Listener{{Address: "127.0.0.1", TLS: &ListenerTLS{Certificates: []string{"other"}}}}
		o.Groups = append(o.Groups, second)
	}).waitReady()
	a := newAsking(t, r.addr, "pair/other", "pair/unknown", "pair/edge")
	m, s := a.next()
	if s.GetName() != "pair/edge" || !bytes.Equal(s.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), edge.Cert) {
		t.Fatalf("got %s", s.GetName())
	}
	a.answer(m, "")
	a.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secrets.url(), ResourceNamesSubscribe: []string{"ca/clients"}})
	m, s = a.next()
	if s.GetName() != "ca/clients" || s.GetValidationContext() == nil {
		t.Fatalf("got %s", s.GetName())
	}
	a.answer(m, "")
	// Rotation: only what has changed, only to who has asked.
	certificates["edge"] = pairOf(ca.Issue(envoytest.Leaf{}))
	certificates["other"] = pairOf(ca.Issue(envoytest.Leaf{}))
	if err := r.SetCertificates(certificates); err != nil {
		t.Fatal(err)
	}
	m, s = a.next()
	if s.GetName() != "pair/edge" || bytes.Equal(s.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), edge.Cert) {
		t.Fatalf("got %s", s.GetName())
	}
	leak := "Proto constraint validation failed: private_key: " + keyOf(t, edge)
	a.answer(m, leak)
	eventually(t, func() error {
		for _, n := range r.gateways.state("xds-1/default").Nodes {
			for _, bad := range n.Rejected {
				if bad.Name == "pair/edge" && bad.Reason == secretRefused {
					return nil
				}
			}
		}
		return fmt.Errorf("nodes %+v", r.gateways.state("xds-1/default").Nodes)
	})
	if log.count(keyOf(t, edge)) != 0 || log.count("Envoy refused a resource") != 1 {
		t.Errorf("the log:\n%s", log)
	}
	// It comes back and says what it has: nothing travels but what differs.
	b := newClient(t, r.addr, "n")
	b.dial()
	b.send(&discoveryv3.DeltaDiscoveryRequest{
		Node: b.node(), TypeUrl: secrets.url(), ResourceNamesSubscribe: []string{"pair/edge", "ca/clients"},
		InitialResourceVersions: map[string]string{"pair/edge": "old", "ca/clients": r.current(secrets)["ca/clients"]},
	})
	if _, s := (asking{b}).next(); s.GetName() != "pair/edge" {
		t.Errorf("got %s", s.GetName())
	}
}

// An API that names a certificate which is not there, or not for its
// organization, is kept back alone, and comes in when the operator adds it.
func TestBackendCertificates(t *testing.T) {
	ca := envoytest.NewCA(t)
	both := func(organizations ...keymanager.OrganizationID) Certificate {
		p := ca.Issue(envoytest.Leaf{})
		return Certificate{CertPEM: p.Cert, KeyPEM: p.Key, CAPEM: ca.PEM, Organizations: organizations}
	}
	secure := func(name, authority, client string) *keymanager.API {
		a := api(name, "https://127.0.0.1:9")
		a.Backend.TLS = &keymanager.BackendTLS{CA: authority, ClientCertificate: client}
		return a
	}
	certificates := map[string]Certificate{
		"acme": both("acme"), "all": both("*"), "nobody": both(), "foreign": both("emca"), "authority": {CAPEM: ca.PEM, Organizations: []keymanager.OrganizationID{"*"}},
	}
	c := newCatalog(api("pets"), secure("own", "acme", "acme"), secure("any", "all", "all"),
		secure("stranger", "foreign", ""), secure("reserved", "nobody", ""), secure("missing", "all", "missing"), secure("keyless", "all", "authority"))
	r := serve(t, c, func(o *Options) { o.Certificates = certificates }).waitReady()
	n := newClient(t, r.addr, "n").connect()
	rejected := func(want ...keymanager.APIID) {
		t.Helper()
		eventually(t, func() error {
			got := map[keymanager.APIID]string{}
			for _, bad := range r.gateways.state("xds-1").Rejected {
				got[bad.API] = bad.Reason
			}
			for _, id := range want {
				if !strings.Contains(got[id], "certificate") {
					return fmt.Errorf("%s is not among %v", id, got)
				}
			}
			if len(got) != len(want) {
				return fmt.Errorf("rejected %v, want %v", got, want)
			}
			return nil
		})
	}
	rejected("stranger-1", "reserved-1", "missing-1", "keyless-1")
	r.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
	for _, name := range []string{"own", "any", "pets"} {
		r.waitHas(n, scopes, "default/"+name)
	}
	if has := n.versions(scopes); len(has) != 3 {
		t.Errorf("tables %v", has)
	}
	if has := r.current(secrets); len(has) != 4 || has["pair/foreign"]+has["ca/foreign"]+has["ca/nobody"] != "" {
		t.Errorf("secrets %v", has)
	}
	certificates["missing"] = both("acme")
	certificates["all"] = both("emca") // no longer for this organization
	if err := r.SetCertificates(certificates); err != nil {
		t.Fatal(err)
	}
	rejected("stranger-1", "reserved-1", "missing-1", "keyless-1", "any-1")
	eventually(t, func() error {
		if n.versions(scopes)["default/any"] != "" {
			return errors.New("it still has routes")
		}
		return nil
	})
	certificates["all"] = both("acme", "emca")
	if err := r.SetCertificates(certificates); err != nil {
		t.Fatal(err)
	}
	rejected("stranger-1", "reserved-1", "keyless-1")
	for _, name := range []string{"own", "any", "pets", "missing"} {
		r.waitHas(n, scopes, "default/"+name)
	}
	n.noneMissing()
}

// Whatever an operator has forgotten in the configuration, also of one that is
// exchanged while it serves, client certificates and TLS 1.3 are asked for.
func TestServerOptionsAskForACertificate(t *testing.T) {
	forgotten := &tls.Config{}
	next := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return forgotten, nil }}
	exchanged, err := mutual(next).GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*tls.Config{mutual(forgotten), exchanged} {
		if c.ClientAuth != tls.RequireAndVerifyClientCert || c.MinVersion != tls.VersionTLS13 {
			t.Errorf("client certificates %v, version %x", c.ClientAuth, c.MinVersion)
		}
	}
	if forgotten.ClientAuth != 0 {
		t.Error("the caller's configuration is changed")
	}
}
