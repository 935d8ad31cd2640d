//go:build !short

package xds

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// visit is a client of an https listener.
type visit struct {
	t    *testing.T
	addr string
	ca   *envoytest.CA
	// What it says of itself.
	cert *envoytest.Pair
	max  uint16
}

// get opens a connection of its own, by name, and returns the answer and the
// certificate that was shown.
func (v visit) get(name, path string) (visited, []byte, error) {
	v.t.Helper()
	config := &tls.Config{RootCAs: v.ca.Pool(), ServerName: name, MaxVersion: v.max, NextProtos: []string{"h2", "http/1.1"}}
	if v.cert != nil {
		config.Certificates = []tls.Certificate{v.cert.TLS(v.t)}
	}
	transport := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, v.addr)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, "https://"+name+path, http.NoBody)
	if err != nil {
		v.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return visited{}, nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return visited{res, res.StatusCode}, res.TLS.PeerCertificates[0].Raw, err
}

// visited is an answer.
type visited struct {
	*http.Response
	status int
}

// der is what a client sees of a pair.
func der(p envoytest.Pair) []byte {
	b, _ := pem.Decode(p.Cert)
	return b.Bytes
}

// serialOf is how Envoy's /certs shows the serial number.
func serialOf(p envoytest.Pair) string {
	c, err := x509.ParseCertificate(der(p))
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", c.SerialNumber)
}

// onHTTPS lets a group serve hosts on an https listener.
func onHTTPS(l *ListenerTLS, certificates map[string]Certificate, hosts ...string) func(*Options) {
	return func(o *Options) {
		o.Certificates = certificates
		o.Groups[0].Hosts = append(o.Groups[0].Hosts, hosts...)
		o.Groups[0].Listeners[0].TLS = l
	}
}

// A client gets the certificate of the name it calls; versions and clients'
// certificates are as configured; the rules of clear-text listeners hold.
func TestEnvoyHTTPS(t *testing.T) {
	ca := envoytest.NewCA(t)
	one, two := ca.Issue(envoytest.Leaf{DNS: []string{"one.test"}}), ca.Issue(envoytest.Leaf{DNS: []string{"two.test"}})
	visitor := ca.Issue(envoytest.Leaf{URI: "spiffe://visitors.test/x"})
	backend := envoytest.HTTP1(t)
	certificates := map[string]Certificate{"one": pairOf(one), "two": pairOf(two), "visitors": {CAPEM: ca.PEM}}
	start := func(t *testing.T, l ListenerTLS) (visit, *envoytest.Envoy) {
		t.Helper()
		r := serve(t, newCatalog(api("pets", backend.URL("/v1"))), onHTTPS(&l, certificates, "one.test", "two.test")).waitReady()
		e := r.gatewayOf(t)
		r.waitConfirmed(keymanager.Position{Epoch: r.catalog.epoch, Seq: 1})
		return visit{t: t, addr: e.Addr("tcp-0"), ca: ca}, e
	}
	t.Run("names", func(t *testing.T) {
		v, e := start(t, ListenerTLS{Certificates: []string{"one", "two"}})
		for name, want := range map[string]envoytest.Pair{"one.test": one, "two.test": two} {
			res, shown, err := v.get(name, "/pets/1.0.0/cats")
			if err != nil || res.status != 200 || !bytes.Equal(shown, der(want)) || res.ProtoMajor != 2 {
				t.Errorf("%s: %v, %v", name, res, err)
				continue
			}
			if got := res.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
				t.Errorf("%s: strict-transport-security %q", name, got)
			}
		}
		if res, _, err := v.get("one.test", "/pets/1.0.0/a%2Fb"); err != nil || res.status != 400 {
			t.Errorf("an escaped slash: %v, %v", res, err)
		}
		v.max = tls.VersionTLS12
		if res, _, err := v.get("two.test", "/nowhere/1.0.0/"); err != nil || res.status != 404 {
			t.Errorf("TLS 1.2: %v, %v", res, err)
		}
		v.max = tls.VersionTLS11
		if _, _, err := v.get("two.test", "/pets/1.0.0/"); err == nil {
			t.Error("TLS 1.1 is served")
		}
		if got := envoytest.Get(t, v.addr, "/pets/1.0.0/", "one.test"); got.Status != 0 {
			t.Errorf("clear text is answered: %+v", got)
		}
		if dump := string(e.Get("/config_dump")); strings.Contains(dump, keyOf(t, one)) || strings.Contains(e.Log(), keyOf(t, one)) {
			t.Error("Envoy shows a key")
		}
	})
	t.Run("clients' certificates", func(t *testing.T) {
		v, _ := start(t, ListenerTLS{Certificates: []string{"one"}, ClientCA: "visitors", MinVersion: tls.VersionTLS13})
		if _, _, err := v.get("one.test", "/pets/1.0.0/"); err == nil {
			t.Error("served without a certificate")
		}
		unknown := envoytest.NewCA(t).Issue(envoytest.Leaf{})
		v.cert = &unknown
		if _, _, err := v.get("one.test", "/pets/1.0.0/"); err == nil {
			t.Error("served with a certificate of another authority")
		}
		v.cert = &visitor
		if res, _, err := v.get("one.test", "/pets/1.0.0/"); err != nil || res.status != 200 {
			t.Errorf("with a certificate: %v, %v", res, err)
		}
		v.max = tls.VersionTLS12
		if _, _, err := v.get("one.test", "/pets/1.0.0/"); err == nil {
			t.Error("TLS 1.2 is served")
		}
	})
	t.Run("redirect", func(t *testing.T) {
		r := serve(t, newCatalog(api("pets", backend.URL(""))), func(o *Options) {
			o.Groups[0].Listeners[0].RedirectTo = 8443
		}).waitReady()
		e := r.gatewayOf(t)
		got := envoytest.Raw(t, e.Addr("tcp-0"), envoytest.Request("POST", "/pets/1.0.0/x?y=1", "one.test", "Content-Length: 0"))
		if got.Status != 308 || got.Header.Get("Location") != "https://one.test:8443/pets/1.0.0/x?y=1" {
			t.Errorf("got %+v", got)
		}
	})
}

// E42: a certificate is exchanged under load without one failed request, and
// every handshake after that shows the new one; a bad one never leaves here; a
// listener opens when it has its certificate.
func TestEnvoyRotatesCertificates(t *testing.T) {
	ca := envoytest.NewCA(t)
	issue := func() envoytest.Pair { return ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}}) }
	backend := envoytest.HTTP1(t)
	t.Run("E42 under load", func(t *testing.T) {
		pair := issue()
		log := &logged{}
		r := serve(t, newCatalog(api("pets", backend.URL(""))),
			onHTTPS(&ListenerTLS{Certificates: []string{"edge"}}, map[string]Certificate{"edge": pairOf(pair)}),
			func(o *Options) { o.Logger = log.logger() }).waitReady()
		e := r.gatewayOf(t)
		r.waitConfirmed(keymanager.Position{Epoch: r.catalog.epoch, Seq: 1})
		v := visit{t: t, addr: e.Addr("tcp-0"), ca: ca}
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		var served atomic.Int64
		for range 4 { // each call is a handshake
			wait.Go(func() {
				for ctx.Err() == nil {
					if res, _, err := v.get("localhost", "/pets/1.0.0/"); err != nil || res.status != 200 {
						t.Errorf("%v, %v", res, err)
						return
					}
					served.Add(1)
				}
			})
		}
		secretKeys := []string{keyOf(t, pair)}
		for range 5 {
			next := issue()
			secretKeys = append(secretKeys, keyOf(t, next))
			if err := r.SetCertificates(map[string]Certificate{"edge": pairOf(next)}); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				if _, shown, err := v.get("localhost", "/pets/1.0.0/"); err != nil || !bytes.Equal(shown, der(next)) {
					return fmt.Errorf("not yet the new certificate: %w", err)
				}
				return nil
			})
			for _, bad := range []Certificate{
				{CertPEM: issue().Cert, KeyPEM: issue().Key},
				pairOf(ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}, NotAfter: time.Now().Add(-time.Minute)})),
			} {
				if err := r.SetCertificates(map[string]Certificate{"edge": bad}); err == nil {
					t.Error("a bad certificate is taken")
				}
			}
			if _, shown, err := v.get("localhost", "/pets/1.0.0/"); err != nil || !bytes.Equal(shown, der(next)) {
				t.Errorf("after a bad one: %v", err)
			}
			from := served.Load()
			eventually(t, func() error {
				if served.Load() < from+10 {
					return errors.New("too few requests")
				}
				return nil
			})
		}
		cancel()
		wait.Wait()
		if n := e.Stat("listener_manager.total_listeners_draining") + e.Stat("listener_manager.listener_modified"); n != 0 {
			t.Errorf("%d listeners changed or drain", n)
		}
		for name, n := range e.Stats(`sds\..*(update_rejected|key_rotation_failed)`) {
			if n != 0 {
				t.Errorf("%s = %d", name, n)
			}
		}
		for _, key := range secretKeys {
			if log.count(key) != 0 || strings.Contains(e.Log(), key) || strings.Contains(string(e.Get("/config_dump")), key) {
				t.Error("a key is shown")
			}
		}
	})
	t.Run("E42 without its certificate", func(t *testing.T) {
		expired := ca.Issue(envoytest.Leaf{DNS: []string{"localhost"}, NotAfter: time.Now().Add(-time.Minute)})
		r := serve(t, newCatalog(api("pets", backend.URL(""))),
			onHTTPS(&ListenerTLS{Certificates: []string{"edge"}}, map[string]Certificate{"edge": pairOf(expired)})).waitReady()
		e := r.gatewayOf(t, func(o *envoytest.Options) { o.Listeners = nil })
		eventually(t, func() error {
			if e.Stat("listener_manager.listener_added") != 1 {
				return errors.New("no listener yet")
			}
			return nil
		})
		eventually(t, func() error {
			list := r.gateways.state("xds-1").Rejected
			if len(list) != 1 || list[0].Name != "edge" || !strings.Contains(list[0].Reason, "expired") {
				return fmt.Errorf("reported %+v", list)
			}
			return nil
		})
		if s, opened := e.State(), e.Stat("listener_manager.listener_create_success"); s == "LIVE" || opened != 0 {
			t.Errorf("state %s, %d workers listen", s, opened)
		}
		if err := r.SetCertificates(map[string]Certificate{"edge": pairOf(issue())}); err != nil {
			t.Fatal(err)
		}
		e.WaitReady("tcp-0")
		v := visit{t: t, addr: e.Addr("tcp-0"), ca: ca}
		eventually(t, func() error {
			if res, _, err := v.get("localhost", "/pets/1.0.0/"); err != nil || res.status != 200 {
				return fmt.Errorf("%v, %w", res, err)
			}
			return nil
		})
	})
}

// Named authorities and client certificates of back ends, and their rotation.
func TestEnvoyUsesBackendCertificates(t *testing.T) {
	ca, stranger := envoytest.NewCA(t), envoytest.NewCA(t)
	client := ca.Issue(envoytest.Leaf{DNS: []string{"gateway"}})
	var shown atomic.Value
	shown.Store([]byte(nil))
	server := func(config *tls.Config) string {
		lis, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0), // of handshakes that are meant to fail
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				var raw []byte
				if len(r.TLS.PeerCertificates) > 0 {
					raw = r.TLS.PeerCertificates[0].Raw
				}
				shown.Store(raw)
			})}
		var wait sync.WaitGroup
		wait.Go(func() { _ = s.Serve(lis) })
		t.Cleanup(func() { _ = s.Close(); wait.Wait() })
		return "https://" + lis.Addr().String()
	}
	asks := server(ca.Server(ca.Issue(envoytest.Leaf{DNS: []string{"pets.internal"}})))
	secure := func(name, url string, use keymanager.BackendTLS) *keymanager.API {
		a := api(name, url)
		a.Backend.TLS = &use
		return a
	}
	c := newCatalog(
		secure("good", asks, keymanager.BackendTLS{CA: "partner", ClientCertificate: "us", ServerName: "pets.internal"}),
		secure("bare", asks, keymanager.BackendTLS{CA: "partner", ServerName: "pets.internal"}),
		secure("misnamed", asks, keymanager.BackendTLS{CA: "partner", ClientCertificate: "us"}),
		secure("distrusted", asks, keymanager.BackendTLS{CA: "stranger", ClientCertificate: "us", ServerName: "pets.internal"}),
		secure("unknown", asks, keymanager.BackendTLS{CA: "nobody"}),
	)
	everybody := []keymanager.OrganizationID{"*"}
	certificates := func() map[string]Certificate {
		return map[string]Certificate{
			"partner": {CAPEM: ca.PEM, Organizations: everybody}, "stranger": {CAPEM: stranger.PEM, Organizations: everybody},
			"us": {CertPEM: client.Cert, KeyPEM: client.Key, Organizations: []keymanager.OrganizationID{"acme"}},
		}
	}
	r := serve(t, c, func(o *Options) {
		o.Certificates = certificates()
		// It too wants to know who is asking.
		o.Groups[0].KeyManager = KeyManager{Addresses: []string{asks}, CA: "partner", ClientCertificate: "us", ServerName: "pets.internal"}
	}).waitReady()
	e := r.gatewayOf(t)
	r.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
	must(t, answers(t, e, "/.well-known/oauth-authorization-server", 200)())
	if !bytes.Equal(shown.Load().([]byte), der(client)) {
		t.Error("Envoy did not show its certificate to the key manager")
	}
	shown.Store([]byte(nil))
	must(t, answers(t, e, "/good/1.0.0/x", 200)())
	if !bytes.Equal(shown.Load().([]byte), der(client)) {
		t.Error("Envoy did not show its certificate")
	}
	for name, status := range map[string]int{"bare": 503, "misnamed": 503, "distrusted": 503, "unknown": 404} {
		must(t, answers(t, e, "/"+name+"/1.0.0/x", status)())
	}
	client = ca.Issue(envoytest.Leaf{DNS: []string{"gateway"}})
	before := e.Stat("cluster_manager.cluster_added") + e.Stat("cluster_manager.cluster_modified")
	l := startLoad(t, e.Addr("tcp-0"), 100, func(int) string { return "/good/1.0.0/x" })
	if err := r.SetCertificates(certificates()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if l.count() < 10 {
			return errors.New("too few requests")
		}
		if !bytes.Contains(e.Get("/certs"), []byte(serialOf(client))) {
			return errors.New("the old client certificate is still in use")
		}
		return nil
	})
	if seen := l.end(); len(seen) != 1 || seen[200] == 0 {
		t.Errorf("answers %v: %v", seen, l.first)
	}
	if after := e.Stat("cluster_manager.cluster_added") + e.Stat("cluster_manager.cluster_modified"); after != before {
		t.Errorf("%d clusters were changed", after-before)
	}
}
