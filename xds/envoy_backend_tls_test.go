//go:build !short

package xds_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
	"tollgate/xds"
)

// mutual starts an https back end that asks for a certificate of clients, and
// says whose it got and by what name it was called.
func mutual(t *testing.T, ca, clients *envoytest.CA, names ...string) (url string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%v called %s", r.TLS.PeerCertificates[0].URIs[0], r.TLS.ServerName)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	s.TLS = ca.Server(ca.Issue(envoytest.Leaf{DNS: names, IP: []net.IP{net.IPv4(127, 0, 0, 1)}}))
	s.TLS.ClientCAs, s.TLS.MinVersion = clients.Pool(), tls.VersionTLS12
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// The gateway shows a back end the certificate that the API names, and takes
// none whose authority or name is another.
func TestBackendTLS(t *testing.T) {
	partner, gateways, stranger := envoytest.NewCA(t), envoytest.NewCA(t), envoytest.NewCA(t)
	const us = "spiffe://edge.example/gateway"
	shown := gateways.Issue(envoytest.Leaf{URI: us})
	foreign := stranger.Issue(envoytest.Leaf{URI: us})
	url := mutual(t, partner, gateways, "partner.internal")
	everybody := []keymanager.OrganizationID{"*"}
	g := newGateway(t, setup{
		options: func(o *xds.Options) {
			o.Certificates = map[string]xds.Certificate{
				"partner":  {CAPEM: partner.PEM, Organizations: everybody},
				"stranger": {CAPEM: stranger.PEM, Organizations: everybody},
				"edge":     {CertPEM: shown.Cert, KeyPEM: shown.Key, Organizations: []keymanager.OrganizationID{"org"}},
				"foreign":  {CertPEM: foreign.Cert, KeyPEM: foreign.Key, Organizations: everybody},
				"theirs":   {CertPEM: shown.Cert, KeyPEM: shown.Key, Organizations: []keymanager.OrganizationID{"other"}},
			}
		},
		apis: func(map[string]*envoytest.Backend) (out []*keymanager.API) {
			for id, tr := range map[string]keymanager.BackendTLS{
				"good":     {CA: "partner", ClientCertificate: "edge", ServerName: "partner.internal"},
				"address":  {CA: "partner", ClientCertificate: "edge"},
				"none":     {CA: "partner"},
				"foreign":  {CA: "partner", ClientCertificate: "foreign"},
				"wrong-ca": {CA: "stranger", ClientCertificate: "edge"},
				"misnamed": {CA: "partner", ClientCertificate: "edge", ServerName: "other.internal"},
				"unknown":  {CA: "nobody"},
				"theirs":   {CA: "partner", ClientCertificate: "theirs"},
			} {
				out = append(out, api(keymanager.APIID(id), "/"+id, "1", func(a *keymanager.API) {
					a.Production, a.Backend.TLS = []string{url}, &tr
				}))
			}
			return out
		},
	})
	for id, want := range map[string]struct {
		status int
		body   string
	}{
		"good":     {200, us + " called partner.internal"},
		"address":  {200, us + " called "},
		"none":     {503, ""},
		"foreign":  {503, ""},
		"wrong-ca": {503, ""},
		"misnamed": {503, ""},
		"unknown":  {404, ""}, // it has never been in use
		"theirs":   {404, ""},
	} {
		envoytest.Eventually(t, func() error { // a secret may come a moment after the port
			r := g.get(t, "/"+id+"/1/x")
			if r.Status != want.status || want.body != "" && r.Body != want.body {
				return fmt.Errorf("%s: status %d %q, want %d %q", id, r.Status, r.Body, want.status, want.body)
			}
			return nil
		})
		if want.status == 503 {
			r := g.get(t, "/"+id+"/1/x")
			if p := refusal(t, r); r.Status != 503 || p.Code != "503" || strings.Contains(r.Body, "certificate") {
				t.Errorf("%s: %d %s", id, r.Status, r.Body)
			}
		}
	}
}

// A sandbox with settings of its own: another authority, another certificate of
// the gateway, at the same host. Neither environment sees what is the other's.
func TestSandboxTLS(t *testing.T) {
	partner, theirs, ours := envoytest.NewCA(t), envoytest.NewCA(t), envoytest.NewCA(t)
	const live, trial = "spiffe://edge.example/live", "spiffe://edge.example/trial"
	forLive, forTrial := theirs.Issue(envoytest.Leaf{URI: live}), ours.Issue(envoytest.Leaf{URI: trial})
	production, sandbox := mutual(t, partner, theirs, "live.internal"), mutual(t, ours, ours, "trial.internal")
	everybody := []keymanager.OrganizationID{"*"}
	g := newGateway(t, setup{
		options: func(o *xds.Options) {
			o.Certificates = map[string]xds.Certificate{
				"partner": {CAPEM: partner.PEM, Organizations: everybody},
				"ours":    {CAPEM: ours.PEM, Organizations: everybody},
				"live":    {CertPEM: forLive.Cert, KeyPEM: forLive.Key, Organizations: everybody},
				"trial":   {CertPEM: forTrial.Cert, KeyPEM: forTrial.Key, Organizations: everybody},
				"foreign": {CertPEM: forTrial.Cert, KeyPEM: forTrial.Key, Organizations: []keymanager.OrganizationID{"other"}},
			}
		},
		apis: func(map[string]*envoytest.Backend) (out []*keymanager.API) {
			for id, own := range map[string]*keymanager.BackendTLS{
				"own":     {CA: "ours", ClientCertificate: "trial", ServerName: "trial.internal"},
				"none":    {CA: "ours"},
				"left":    nil, // as production: another authority
				"foreign": {CA: "ours", ClientCertificate: "foreign"},
			} {
				out = append(out, api(keymanager.APIID(id), "/"+id, "1", func(a *keymanager.API) {
					a.Production, a.Sandbox = []string{production}, []string{sandbox}
					a.Backend.TLS = &keymanager.BackendTLS{CA: "partner", ClientCertificate: "live", ServerName: "live.internal"}
					a.Backend.SandboxTLS = own
				}))
			}
			return out
		},
	})
	g.authz.Script(byKey)
	liveBody := live + " called live.internal"
	for _, tt := range []struct {
		id          string
		live        int
		trial       int
		trialAnswer string
	}{
		{"own", 200, 200, trial + " called trial.internal"}, {"none", 200, 503, ""}, {"left", 200, 503, ""}, {"foreign", 404, 404, ""},
	} {
		envoytest.Eventually(t, func() error { // a secret may come a moment after the port
			if r := g.get(t, "/"+tt.id+"/1/x"); r.Status != tt.live || tt.live == 200 && r.Body != liveBody {
				return fmt.Errorf("%s: production %d %q", tt.id, r.Status, r.Body)
			}
			if r := g.get(t, "/"+tt.id+"/1/x", sandboxKey); r.Status != tt.trial || tt.trial == 200 && r.Body != tt.trialAnswer {
				return fmt.Errorf("%s: sandbox %d %q", tt.id, r.Status, r.Body)
			}
			return nil
		})
	}
}
