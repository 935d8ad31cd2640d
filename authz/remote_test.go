package authz

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.pool.AddCert(a.cert)
	return a
}

// issue returns a certificate for 127.0.0.1 with one identity, or none.
func (a *authority) issue(t testing.TB, id string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	if id != "" {
		u, err := url.Parse(id)
		must(t, err)
		template.URIs = []*url.URL{u}
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestRemoteCallers: only gateways of the own group may ask, and nobody in
// plaintext.
func TestRemoteCallers(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	r := newRig(t, func(o *Options) { o.Group, o.TrustDomain = "edge", "example.org" }).run(t)
	own := ca.issue(t, "spiffe://example.org/authz/edge/a1", nil)
	plain := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}, ClientCAs: ca.pool}
	chosen := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return plain, nil }}
	for name, config := range map[string]*tls.Config{"fixed": plain, "chosen for each client": chosen} {
		server, err := r.server.Remote(config)
		must(t, err)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		ask := func(creds credentials.TransportCredentials) error {
			conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(creds))
			must(t, err)
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			m, err := authv3.NewAuthorizationClient(conn).Check(ctx, call{path: envoyPath + "/public"}.message())
			if err == nil && m.GetStatus().GetCode() != int32(codes.OK) {
				t.Errorf("%s: answered %v", name, m)
			}
			return err
		}
		client := func(c ...tls.Certificate) credentials.TransportCredentials {
			return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.pool, Certificates: c})
		}
		old := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, RootCAs: ca.pool,
			Certificates: []tls.Certificate{ca.issue(t, "spiffe://example.org/gateway/edge/e1", nil)}}
		for _, tt := range []struct {
			name  string
			creds credentials.TransportCredentials
			ok    bool
		}{
			{"a gateway of the group", client(ca.issue(t, "spiffe://example.org/gateway/edge/e1", nil)), true},
			{"a gateway of another group", client(ca.issue(t, "spiffe://example.org/gateway/inner/e1", nil)), false},
			{"an authz", client(ca.issue(t, "spiffe://example.org/authz/edge/a2", nil)), false},
			{"an xds", client(ca.issue(t, "spiffe://example.org/xds/x1", nil)), false},
			{"a key manager", client(ca.issue(t, "spiffe://example.org/keymanager/k1", nil)), false},
			{"another trust domain", client(ca.issue(t, "spiffe://example.com/gateway/edge/e1", nil)), false},
			{"no identity", client(ca.issue(t, "", nil)), false},
			{"no certificate", client(), false},
			{"another CA", client(other.issue(t, "spiffe://example.org/gateway/edge/e1", nil)), false},
			{"expired", client(ca.issue(t, "spiffe://example.org/gateway/edge/e1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })), false},
			{"TLS 1.2", credentials.NewTLS(old), false},
			{"plaintext", insecure.NewCredentials(), false},
		} {
			err := ask(tt.creds)
			if (err == nil) != tt.ok || err != nil && status.Code(err) != codes.Unavailable {
				t.Errorf("%s, %s: %v", name, tt.name, err)
			}
		}
		server.Stop()
		if err := <-done; !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			must(t, err)
		}
	}
	if n := r.server.record.strangers.value(); n != 2*6 {
		t.Errorf("%d callers counted as refused, want 12", n)
	}
}

func TestRemoteNeedsIdentities(t *testing.T) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, ClientCAs: x509.NewCertPool()}
	for name, f := range map[string]func(*Options){
		"a trust domain": func(o *Options) { o.Group = "edge" },
		"a group":        func(o *Options) { o.TrustDomain = "example.org" },
	} {
		if _, err := newRig(t, f).server.Remote(config); err == nil {
			t.Errorf("a remote listener without %s", name)
		}
	}
	full := newRig(t, func(o *Options) { o.Group, o.TrustDomain = "edge", "example.org" }).server
	for name, config := range map[string]*tls.Config{"TLS": nil, "CAs": {MinVersion: tls.VersionTLS13}} {
		if _, err := full.Remote(config); err == nil {
			t.Errorf("a remote listener without %s", name)
		}
	}
}
