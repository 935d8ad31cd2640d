//go:build !short

package bootstrap_test

import (
	"context"
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
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/envoy/process"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// pair is a certificate with its key and who signed it, in PEM.
type pair struct{ cert, key, ca []byte }

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert.Raw = der
	return a
}

// issue signs a certificate for names: URIs, addresses and DNS names.
func (a *authority) issue(t *testing.T, names ...string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		switch {
		case strings.Contains(n, "://"):
			u, err := url.Parse(n)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		case net.ParseIP(n) != nil:
			cert.IPAddresses = append(cert.IPAddresses, net.ParseIP(n))
		default:
			cert.DNSNames = append(cert.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return pair{block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8), block("CERTIFICATE", a.cert.Raw)}
}

// server is the TLS configuration of a server with the pair, which asks every
// client for a certificate of the same authority.
func (p pair) server(t *testing.T) *tls.Config {
	t.Helper()
	cert, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.ca)
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
	}
}

// newMount lays a pair down as Kubernetes mounts a secret: the files are links
// into ..data, itself a link to a folder. Beside it are the SDS files.
func newMount(t *testing.T, p pair) bootstrap.TLS {
	t.Helper()
	root := envoytest.Dir(t)
	dir := filepath.Join(root, "tls")
	out := bootstrap.TLS{
		CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		CAFile: filepath.Join(dir, "ca.crt"), SDSDir: filepath.Join(root, "sds"),
	}
	for _, d := range []string{dir, out.SDSDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	rotate(t, out, "..first", p)
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := out.SDSFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		write(t, f.Path, f.Content)
	}
	return out
}

// rotate puts another pair into the mount, in one step.
func rotate(t *testing.T, mount bootstrap.TLS, version string, p pair) {
	t.Helper()
	dir := filepath.Dir(mount.CertFile)
	if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, version, "tls.crt"), p.cert)
	write(t, filepath.Join(dir, version, "tls.key"), p.key)
	write(t, filepath.Join(dir, version, "ca.crt"), p.ca)
	link := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(version, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// validateFile lets Envoy check a file by its name.
func validateFile(ctx context.Context, t *testing.T, file string) {
	t.Helper()
	out, err := exec.CommandContext(ctx, envoytest.Binary(t), "--mode", "validate", "-c", file, "-l", "warning").CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", file, err, out)
	}
}

// serial is the number of the certificate.
func (p pair) serial(t *testing.T) string {
	t.Helper()
	block, _ := pem.Decode(p.cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.SerialNumber.String()
}

// ends starts an Envoy that must end by itself, with a word on why.
func ends(t *testing.T, raw []byte, why string) {
	t.Helper()
	p, err := process.Start(process.Options{Binary: envoytest.Binary(t), Bootstrap: raw})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	select {
	case <-p.Done():
	case <-time.After(envoytest.Patience):
		t.Fatal("it still runs")
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("it ended with %v, want %s in it", err, why)
	}
}
