//go:build !short

package xds

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy"
	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// authority signs certificates for one test.
type authority struct {
	*envoytest.CA
	t    *testing.T
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{envoytest.NewCA(t), t, filepath.Join(envoytest.Dir(t), "ca.pem")}
	if err := os.WriteFile(a.file, a.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// server starts an https back end with a certificate for names and addresses.
// It remembers the name that it was called by (SNI).
func (a *authority) server(sni *atomic.Value, names []string, ips ...net.IP) (port string) {
	a.t.Helper()
	pair := a.Issue(envoytest.Leaf{DNS: names, IP: ips}).TLS(a.t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sni.Store(r.TLS.ServerName)
		_, _ = io.WriteString(w, "https "+r.Host)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	a.t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	return port
}

// An https back end is verified by authority and by name; environments may
// differ in it.
func TestEnvoyVerifiesBackends(t *testing.T) {
	ca, stranger, dns := newAuthority(t), newAuthority(t), envoytest.NewDNS(t)
	var sni atomic.Value
	named := ca.server(&sni, []string{"pets.internal"})
	second := ca.server(&sni, []string{"second.internal"})
	wrong := ca.server(&sni, []string{"other.internal"})
	unsigned := stranger.server(&sni, []string{"unsigned.internal"})
	numbered := ca.server(&sni, nil, net.IPv4(127, 0, 0, 1))
	plain := envoytest.HTTP1(t)

	mixed := api("mixed", "https://pets.internal:"+named)
	mixed.Sandbox = []string{plain.URL("")}
	both := api("both", "https://pets.internal:"+named)
	both.Sandbox = []string{"https://second.internal:" + second}
	c := newCatalog(mixed, both,
		api("named", "https://pets.internal:"+named),
		api("wrong", "https://wrong.internal:"+wrong),
		api("unsigned", "https://unsigned.internal:"+unsigned),
		api("numbered", "https://127.0.0.1:"+numbered),
	)
	r := serve(t, c, func(o *Options) { o.Groups[0].CAFile = ca.file }).waitReady()
	authz := envoytest.NewAuthz(t)
	authz.Script(func(req *authv3.CheckRequest) envoytest.Answer {
		env := envoy.EnvProduction
		if req.GetAttributes().GetRequest().GetHttp().GetMethod() == http.MethodDelete { // as a sandbox key would
			env = envoy.EnvSandbox
		}
		return envoytest.Answer{Response: envoytest.OKTo(env)}
	})
	e := envoytest.Start(t, envoytest.Options{
		XDS: r.addr, Authz: authz.Path(), Listeners: []string{"tcp-0"},
		Bootstrap: func(b *bootstrap.Options) { b.DNS = dns.Addr() },
	})
	r.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
	addr := e.Addr("tcp-0")
	for _, tt := range []struct {
		method, api string
		status      int
		body, sni   string
	}{
		{"GET", "named", 200, "https pets.internal:" + named, "pets.internal"},
		{"GET", "numbered", 200, "https 127.0.0.1:" + numbered, ""},
		{"GET", "wrong", 503, "", "-"},
		{"GET", "unsigned", 503, "", "-"},
		{"GET", "mixed", 200, "https pets.internal:" + named, "pets.internal"},
		{"DELETE", "mixed", 200, "", "-"},
		{"GET", "both", 200, "https pets.internal:" + named, "pets.internal"},
		{"DELETE", "both", 200, "https second.internal:" + second, "second.internal"},
		{"DELETE", "named", 503, "", "-"}, // no sandbox: never the other environment
	} {
		sni.Store("-")
		res := envoytest.Raw(t, addr, envoytest.Request(tt.method, "/"+tt.api+"/1.0.0/x", "localhost"))
		if res.Status != tt.status || tt.body != "" && res.Body != tt.body || sni.Load() != tt.sni {
			t.Errorf("%s %s: %d %q by the name %q, want %+v", tt.method, tt.api, res.Status, res.Body, sni.Load(), tt)
		}
	}
	if n := len(plain.Seen()); n != 1 {
		t.Errorf("the clear-text sandbox saw %d requests, want 1", n)
	}
	if s := fmt.Sprint(e.Stat("cluster_manager.cds.update_rejected")); s != "0" {
		t.Errorf("Envoy refused %s responses", s)
	}
}
