package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/peertest"
)

// certFolder holds the files of an identity as Kubernetes mounts a secret: each
// is a link into a folder that is replaced as a whole.
type certFolder struct {
	t   *testing.T
	dir string
}

func newCertFolder(t *testing.T, i *peertest.Identity, ca *peertest.Authority) certFolder {
	f := certFolder{t, t.TempDir()}
	f.put(i.PEM, i.KeyPEM, ca.PEM)
	for _, name := range []string{"cert.pem", "key.pem", "ca.pem"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// put replaces what the files hold, in one step.
func (f certFolder) put(cert, key, ca []byte) {
	f.t.Helper()
	next, err := os.MkdirTemp(f.dir, "..next")
	for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": key, "ca.pem": ca} {
		if err == nil {
			err = os.WriteFile(filepath.Join(next, name), content, 0o640)
		}
	}
	if err == nil {
		err = os.Chmod(next, 0o755)
	}
	link := filepath.Join(f.dir, "..data_tmp")
	if err == nil {
		err = os.Symlink(filepath.Base(next), link)
	}
	if err == nil {
		err = os.Rename(link, filepath.Join(f.dir, "..data"))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f certFolder) config() TLSConfig {
	path := func(name string) string { return filepath.Join(f.dir, name) }
	return TLSConfig{CertFile: path("cert.pem"), KeyFile: path("key.pem"), CAFile: path("ca.pem"), TrustDomain: peertest.TrustDomain}
}

func (f certFolder) load(r roles) (*certificates, error) {
	cfg := defaultConfig()
	cfg.TLS = f.config()
	among, _, err := ownCertificates(&cfg, r, newLogger(io.Discard, cfg.Log))
	return among, err
}

// What a process cannot use as its certificate is refused, in one line that
// says which file it is and what is wrong with it.
func TestCertificatesRefused(t *testing.T) {
	ca := peertest.CA(t)
	good := ca.Server("xds/xds-1")
	xds, authz := roles{xds: true}, roles{authz: true}
	for name, tc := range map[string]struct {
		leaf          peertest.Leaf
		cert, key, ca []byte // instead
		mode          os.FileMode
		roles         roles
		want          string
	}{
		"expired":           {leaf: peertest.Leaf{Peer: "xds/a", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, roles: xds, want: "has expired on"},
		"not valid yet":     {leaf: peertest.Leaf{Peer: "xds/a", NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}, roles: xds, want: "is not valid before"},
		"another key":       {leaf: peertest.Leaf{Peer: "xds/a"}, key: good.KeyPEM, roles: xds, want: "private key does not match"},
		"no certificate":    {leaf: peertest.Leaf{Peer: "xds/a"}, cert: []byte("nothing\n"), roles: xds, want: "cert.pem"},
		"no authorities":    {leaf: peertest.Leaf{Peer: "xds/a"}, ca: []byte("nothing\n"), roles: xds, want: "tls.ca_file:"},
		"world-readable":    {leaf: peertest.Leaf{Peer: "xds/a"}, mode: 0o644, roles: xds, want: "chmod 640"},
		"another role":      {leaf: peertest.Leaf{Peer: "keymanager/a"}, roles: xds, want: "is that of keymanager/a, and this process runs xds"},
		"an Envoy's":        {leaf: peertest.Leaf{Peer: "gateway/default/a"}, roles: authz, want: "is that of gateway/default/a"},
		"another group":     {leaf: peertest.Leaf{Peer: "authz/eu/a"}, roles: authz, want: "is for the gateway group eu, and gateway.group is default"},
		"another domain":    {leaf: peertest.Leaf{Peer: "xds/a", TrustDomain: "other.test"}, roles: xds, want: "is not one of spiffe://" + peertest.TrustDomain},
		"without identity":  {leaf: peertest.Leaf{URIs: []string{}, Hosts: []string{"localhost"}}, roles: xds, want: "tls.cert_file"},
		"with two of them":  {leaf: peertest.Leaf{URIs: []string{"spiffe://tollgate.test/xds/a", "spiffe://tollgate.test/xds/b"}}, roles: xds, want: "2 URIs"},
		"half an identity":  {leaf: peertest.Leaf{URIs: []string{"spiffe://tollgate.test/xds"}}, roles: xds, want: "is not ROLE/NAME"},
		"key and all right": {leaf: peertest.Leaf{Peer: "xds/a"}, mode: 0o640, roles: xds},
	} {
		t.Run(name, func(t *testing.T) {
			i := ca.Issue(tc.leaf)
			or := func(given, standard []byte) []byte {
				if given != nil {
					return given
				}
				return standard
			}
			f := newCertFolder(t, i, ca)
			f.put(or(tc.cert, i.PEM), or(tc.key, i.KeyPEM), or(tc.ca, ca.PEM))
			if tc.mode != 0 {
				if err := os.Chmod(f.config().KeyFile, tc.mode); err != nil {
					t.Fatal(err)
				}
			}
			_, err := f.load(tc.roles)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("%v, want one line with %q", err, tc.want)
			}
		})
	}
}

// A renewed pair is used from the next look on; what cannot be used leaves the
// old one, and is said once.
func TestCertificatesFollowTheirFiles(t *testing.T) {
	ca, other := peertest.CA(t), peertest.CA(t)
	first, second := ca.Server("xds/xds-1"), ca.Server("xds/xds-1")
	f := newCertFolder(t, first, ca)
	c, err := f.load(roles{xds: true})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c.log = newLogger(&log, LogConfig{Level: "info"})
	used := func(i *peertest.Identity) bool {
		cfg, err := c.mutual().GetConfigForClient(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(cfg.Certificates[0].Certificate[0], i.Certificate.Certificate[0])
	}
	f.put(first.PEM, second.KeyPEM, ca.PEM) // half of a change that is under way
	c.reload()
	c.reload()
	if !used(first) || strings.Count(log.String(), "the old one stays") != 1 {
		t.Errorf("after a mismatch: %s", log.String())
	}
	if err := os.Remove(filepath.Join(f.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if c.reload(); !used(first) || !strings.Contains(log.String(), "no such file") {
		t.Errorf("after the files were removed: %s", log.String())
	}
	stranger := ca.Server("keymanager/km-1")
	f.put(stranger.PEM, stranger.KeyPEM, ca.PEM)
	if c.reload(); !used(first) || !strings.Contains(log.String(), "this process is xds/xds-1") {
		t.Errorf("after another role's: %s", log.String())
	}
	f.put(second.PEM, second.KeyPEM, other.PEM)
	c.reload()
	if !used(second) || !c.current.Load().roots.Equal(other.Pool()) {
		t.Errorf("after a renewal: %s", log.String())
	}
}

// Key manager, authz and xds in three processes find each other over mTLS, and a
// renewed authority of all of them is followed without a restart.
func TestProcessesOverTLS(t *testing.T) {
	ca := peertest.CA(t)
	dir, rpcAddress := stateDir(t), freeAddress(t)
	cfg := func(peer string) (Config, certFolder) {
		f := newCertFolder(t, ca.Server(peer), ca)
		cfg := defaultConfig()
		cfg.State.Dir, cfg.TLS = dir, f.config()
		cfg.Ops.Address, cfg.KeyManager.Address, cfg.XDS.Address = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		return cfg, f
	}
	km, kmFiles := cfg("keymanager/km-1")
	km.RPC.Address = rpcAddress
	manager := startDaemon(t, km, roles{keyManager: true})
	gate, gateFiles := cfg("authz/default/authz-1")
	gate.RPC.Servers = []string{rpcAddress}
	authz := startDaemon(t, gate, roles{authz: true})
	control, controlFiles := cfg("xds/xds-1")
	control.RPC.Servers = []string{rpcAddress}
	xds := startDaemon(t, control, roles{xds: true})
	reported := func(want ...string) bool {
		names := ""
		for _, s := range manager.gateways.States() {
			names += string(s.Kind) + "/" + s.ID + " "
		}
		for _, w := range want {
			if !strings.Contains(names, w) {
				return false
			}
		}
		return true
	}
	await(t, "reports under the names of the certificates", func() bool { return reported("authz/authz-1", "xds/xds-1") })

	// A new authority: first all trust both, then all have a certificate of it.
	renewed := peertest.CA(t)
	both := append(bytes.Clone(ca.PEM), renewed.PEM...)
	for _, step := range []struct {
		issuer *peertest.Authority
		trust  []byte
	}{{ca, both}, {renewed, both}, {renewed, renewed.PEM}} {
		for peer, f := range map[string]certFolder{"keymanager/km-1": kmFiles, "authz/default/authz-1": gateFiles, "xds/xds-1": controlFiles} {
			i := step.issuer.Server(peer)
			f.put(i.PEM, i.KeyPEM, step.trust)
		}
		for _, d := range []*daemon{manager, authz, xds} {
			await(t, "the files are followed", func() bool { return bytes.Equal(d.identity.current.Load().bytes[2], step.trust) })
		}
	}
	fresh, _ := cfg("authz/default/authz-2")
	i := renewed.Client("authz/default/authz-2")
	fresh.TLS = newCertFolder(t, i, renewed).config()
	fresh.Authz.Socket = filepath.Join(filepath.Dir(dir), "second.sock")
	fresh.RPC.Servers = []string{rpcAddress}
	startDaemon(t, fresh, roles{authz: true})
	await(t, "everybody reports after the change", func() bool { return reported("authz/authz-1", "authz/authz-2", "xds/xds-1") })
	if err := authz.authz.Ready(); err != nil {
		t.Error(err)
	}
}

// A process whose certificate the key managers do not trust is not ready, and
// says why.
func TestProcessWithAStrangersCertificate(t *testing.T) {
	ca, other := peertest.CA(t), peertest.CA(t)
	dir, rpcAddress := stateDir(t), freeAddress(t)
	km := defaultConfig()
	km.State.Dir, km.TLS = dir, newCertFolder(t, ca.Server("keymanager/km-1"), ca).config()
	km.Ops.Address, km.KeyManager.Address, km.RPC.Address = "127.0.0.1:0", "127.0.0.1:0", rpcAddress
	startDaemon(t, km, roles{keyManager: true})
	f := newCertFolder(t, other.Client("xds/xds-1"), other)
	t.Setenv("TOLLGATE_TLS_CERT_FILE", f.config().CertFile)
	t.Setenv("TOLLGATE_TLS_KEY_FILE", f.config().KeyFile)
	t.Setenv("TOLLGATE_TLS_CA_FILE", f.config().CAFile)
	t.Setenv("TOLLGATE_TLS_TRUST_DOMAIN", peertest.TrustDomain)
	t.Setenv("TOLLGATE_RPC_SERVERS", rpcAddress)
	p := serve(t, freeAddress(t), "xds", "--state", dir)
	p.until(http.StatusServiceUnavailable, "no key manager at "+rpcAddress+" answers: ")
	p.until(http.StatusServiceUnavailable, "certificate signed by unknown authority")
	p.stop()
}

// await waits for something to become true.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(maxTestWait); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", maxTestWait, what)
		}
	}
}

// Who asks a key manager, and listens for others, needs a certificate of that
// role: one process has one.
func TestIdentityFitsTheRoles(t *testing.T) {
	for name, tc := range map[string]struct {
		peer  keymanager.Peer
		roles roles
		set   func(*Config)
		want  string
	}{
		"all, by sockets": {keymanager.Peer{Role: keymanager.RoleXDS, Name: "a"}, allRoles, func(*Config) {}, ""},
		"remote authz":    {keymanager.Peer{Role: keymanager.RoleKeyManager, Name: "a"}, allRoles, func(c *Config) { c.Authz.Address = "0.0.0.0:9093" }, "authz.address"},
		"remote xds":      {keymanager.Peer{Role: keymanager.RoleKeyManager, Name: "a"}, allRoles, func(c *Config) { c.XDS.Address = "0.0.0.0:9094" }, "xds.address"},
		"key manager":     {keymanager.Peer{Role: keymanager.RoleXDS, Name: "a"}, allRoles, func(c *Config) { c.RPC.Address = "0.0.0.0:9092" }, "rpc.address"},
		"asking":          {keymanager.Peer{Role: keymanager.RoleXDS, Name: "a"}, roles{authz: true, xds: true}, func(c *Config) { c.RPC.Servers = []string{"km:9092"} }, "rpc.servers"},
		"asking a socket": {keymanager.Peer{Role: keymanager.RoleXDS, Name: "a"}, roles{authz: true, xds: true}, func(c *Config) { c.RPC.Servers = []string{"/run/rpc.sock"} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := defaultConfig()
			tc.set(&cfg)
			err := checkIdentity(&cfg, tc.roles, tc.peer)
			if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}
