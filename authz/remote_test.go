package authz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"tollgate/keymanager/peertest"
)

// certificate is one for 127.0.0.1 with one identity, or none.
func certificate(ca *peertest.Authority, id string, notAfter time.Time) tls.Certificate {
	l := peertest.Leaf{URIs: []string{}, Hosts: []string{"127.0.0.1"}, NotAfter: notAfter}
	if id != "" {
		l.URIs = []string{id}
	}
	return ca.Issue(l).Certificate
}

// TestRemoteCallers: only gateways of the own group may ask, and nobody in
// plaintext.
func TestRemoteCallers(t *testing.T) {
	ca, other := peertest.CA(t), peertest.CA(t)
	r := newRig(t, func(o *Options) { o.Group, o.TrustDomain = "edge", "example.org" }).run(t)
	own := certificate(ca, "spiffe://example.org/authz/edge/a1", time.Time{})
	plain := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}, ClientCAs: ca.Pool()}
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
			return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), Certificates: c})
		}
		old := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, RootCAs: ca.Pool(),
			Certificates: []tls.Certificate{certificate(ca, "spiffe://example.org/gateway/edge/e1", time.Time{})}}
		for _, tt := range []struct {
			name  string
			creds credentials.TransportCredentials
			ok    bool
		}{
			{"a gateway of the group", client(certificate(ca, "spiffe://example.org/gateway/edge/e1", time.Time{})), true},
			{"a gateway of another group", client(certificate(ca, "spiffe://example.org/gateway/inner/e1", time.Time{})), false},
			{"an authz", client(certificate(ca, "spiffe://example.org/authz/edge/a2", time.Time{})), false},
			{"an xds", client(certificate(ca, "spiffe://example.org/xds/x1", time.Time{})), false},
			{"a key manager", client(certificate(ca, "spiffe://example.org/keymanager/k1", time.Time{})), false},
			{"another trust domain", client(certificate(ca, "spiffe://example.com/gateway/edge/e1", time.Time{})), false},
			{"no identity", client(certificate(ca, "", time.Time{})), false},
			{"no certificate", client(), false},
			{"another CA", client(certificate(other, "spiffe://example.org/gateway/edge/e1", time.Time{})), false},
			{"expired", client(certificate(ca, "spiffe://example.org/gateway/edge/e1", time.Now().Add(-time.Second))), false},
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

// Envoys on other machines watch authz's health: from the drain on it says that
// it serves no more, and still answers.
func TestDrain(t *testing.T) {
	r := newRig(t, nil).run(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := r.server.serverFor()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	health := func() healthpb.HealthCheckResponse_ServingStatus {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		h, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: serviceName})
		must(t, err)
		return h.GetStatus()
	}
	eventually(t, "serves", func() bool { return health() == healthpb.HealthCheckResponse_SERVING })
	r.server.Drain()
	for range 3 { // also after it has looked at itself again
		if got := health(); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("while it drains: %s", got)
		}
		r.server.setHealth(r.server.Ready() == nil)
	}
	m, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), call{path: envoyPath + "/public"}.message())
	must(t, err)
	if m.GetStatus().GetCode() != int32(codes.OK) {
		t.Errorf("while it drains a Check is answered %v", m)
	}
	server.Stop()
	must(t, <-done)
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
