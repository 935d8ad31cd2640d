package redistest

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"tollgate/keymanager/peertest"
)

// writeCertificates writes ca.pem, cert.pem and key.pem of a server on
// 127.0.0.1 to dir, and returns what its clients need.
func writeCertificates(t testing.TB, dir string) *tls.Config {
	t.Helper()
	ca := peertest.CA(t)
	id := ca.Issue(peertest.Leaf{URIs: []string{}, Hosts: []string{"localhost", "127.0.0.1"}})
	for name, content := range map[string][]byte{"ca.pem": ca.PEM, "cert.pem": id.PEM, "key.pem": id.KeyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
}
