//go:build !short

package bootstrap_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/envoy/process"
	"tollgate/keymanager/peertest"
)

// authority signs certificates.
type authority struct{ *peertest.Authority }

// pair is a certificate with its key and who signed it, in PEM.
type pair struct{ cert, key, ca []byte }

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return &authority{peertest.CA(t)}
}

// issue signs a certificate for names: URIs, addresses and DNS names.
func (a *authority) issue(t *testing.T, names ...string) pair {
	t.Helper()
	l := peertest.Leaf{URIs: []string{}}
	for _, n := range names {
		if strings.Contains(n, "://") {
			l.URIs = append(l.URIs, n)
			continue
		}
		l.Hosts = append(l.Hosts, n)
	}
	id := a.Issue(l)
	return pair{id.PEM, id.KeyPEM, a.PEM}
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
