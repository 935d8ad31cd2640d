package envoytest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tollgate/keymanager/peertest"
)

// CA is an authority that signs certificates for one test.
type CA struct {
	t         testing.TB
	authority *peertest.Authority
	// PEM is its certificate.
	PEM []byte
}

// Leaf is what a certificate is issued to. Without times it is valid for an
// hour; without a key it gets a new one on P-256.
type Leaf struct {
	URI                 string // spiffe://…
	DNS                 []string
	IP                  []net.IP
	NotBefore, NotAfter time.Time
	Key                 crypto.Signer
}

// Pair is a certificate and its private key, in PEM.
type Pair struct{ Cert, Key []byte }

// NewCA makes an authority.
func NewCA(t testing.TB) *CA {
	t.Helper()
	a := peertest.CA(t)
	return &CA{t, a, a.PEM}
}

// Issue signs a certificate for servers and clients.
func (ca *CA) Issue(leaf Leaf) Pair {
	ca.t.Helper()
	l := peertest.Leaf{URIs: []string{}, Hosts: slices.Clone(leaf.DNS), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Key: leaf.Key}
	if leaf.URI != "" {
		l.URIs = []string{leaf.URI}
	}
	for _, ip := range leaf.IP {
		l.Hosts = append(l.Hosts, ip.String())
	}
	id := ca.authority.Issue(l)
	return Pair{Cert: id.PEM, Key: id.KeyPEM}
}

// Pool is the authority as a pool.
func (ca *CA) Pool() *x509.CertPool { return ca.authority.Pool() }

// Server is the configuration of a server with the certificate p that asks for
// certificates of this authority.
func (ca *CA) Server(p Pair) *tls.Config {
	ca.t.Helper()
	return &tls.Config{
		Certificates: []tls.Certificate{p.TLS(ca.t)}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13,
	}
}

// TLS is the pair for a Go server or client.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// MutualTLS changes a bootstrap: Envoy shows its control plane the certificate
// p, and wants one of the authority ca (PEM) that is issued to serverName.
func MutualTLS(t testing.TB, ca []byte, p Pair, serverName string) func(bootstrap []byte) []byte {
	t.Helper()
	dir := Dir(t)
	file := func(name string, content []byte) map[string]any {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"filename": path}
	}
	socket := map[string]any{
		"name": "envoy.transport_sockets.tls",
		"typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"sni":   serverName,
			"common_tls_context": map[string]any{
				"tls_params": map[string]any{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
				"tls_certificates": []any{map[string]any{
					"certificate_chain": file("cert.pem", p.Cert), "private_key": file("key.pem", p.Key),
				}},
				"validation_context": map[string]any{
					"trusted_ca": file("ca.pem", ca),
					"match_typed_subject_alt_names": []any{map[string]any{
						"san_type": "DNS", "matcher": map[string]any{"exact": serverName},
					}},
				},
			},
		},
	}
	return func(raw []byte) []byte {
		var doc map[string]any
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		for _, c := range doc["static_resources"].(map[string]any)["clusters"].([]any) {
			if c := c.(map[string]any); c["name"] == "xds_cluster" {
				c["transport_socket"] = socket
			}
		}
		out, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}
