package peertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TrustDomain is that of every certificate unless a Leaf says otherwise.
const TrustDomain = "tollgate.test"

// Authority signs certificates.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  []byte // its certificate: the CA file of everybody
}

// Leaf describes a certificate.
type Leaf struct {
	// Peer is ROLE/NAME or ROLE/GROUP/NAME, such as "authz/eu/authz-1".
	Peer        string
	TrustDomain string   // "" = TrustDomain
	URIs        []string // instead of those two; empty and not nil = none
	// Hosts are DNS names and addresses; a server needs one.
	Hosts               []string
	NotBefore, NotAfter time.Time     // zero = an hour ago, in an hour
	Key                 crypto.Signer // nil = a new one on P-256
}

// Identity is a certificate and its key.
type Identity struct {
	authority   *Authority
	Certificate tls.Certificate
	PEM         []byte // certificate
	KeyPEM      []byte
}

// CA returns a new authority.
func CA(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// Issue signs a certificate.
func (a *Authority) Issue(l Leaf) *Identity {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(a.t), NotBefore: l.NotBefore, NotAfter: l.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	uris := l.URIs
	if uris == nil {
		domain := l.TrustDomain
		if domain == "" {
			domain = TrustDomain
		}
		uris = []string{"spiffe://" + domain + "/" + l.Peer}
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	for _, h := range l.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	if l.Key == nil {
		l.Key = newKey(a.t)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, l.Key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(l.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	id := &Identity{
		authority: a,
		PEM:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	if id.Certificate, err = tls.X509KeyPair(id.PEM, id.KeyPEM); err != nil {
		a.t.Fatal(err)
	}
	return id
}

// Server signs the certificate of a server, such as "keymanager/km-1", which
// clients reach at localhost, the loopback addresses and more hosts.
func (a *Authority) Server(peer string, hosts ...string) *Identity {
	a.t.Helper()
	return a.Issue(Leaf{Peer: peer, Hosts: append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)})
}

// Client signs the certificate of a client, such as "authz/eu/authz-1".
func (a *Authority) Client(peer string) *Identity {
	a.t.Helper()
	return a.Issue(Leaf{Peer: peer})
}

// Pool returns the authority as the only one to trust.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// ServerTLS returns what a server with this identity is configured with:
// clients must show a certificate of the same authority.
func (i *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.Certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: i.authority.Pool(), NextProtos: []string{"h2"},
	}
}

// ClientTLS returns what a client with this identity is configured with.
func (i *Identity) ClientTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.Certificate}, RootCAs: i.authority.Pool()}
}

// Files writes the identity and its authority to files of the test.
func (i *Identity) Files(t testing.TB) (certFile, keyFile, caFile string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", i.PEM), write("key.pem", i.KeyPEM), write("ca.pem", i.authority.PEM)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
