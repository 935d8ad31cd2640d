package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"tollgate/authz"
	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
	"tollgate/keymanager/validator"
	"tollgate/xds"
)

// system is the parts of one process, joined. Each contract between the key
// manager and its gateways is served here by a plain call.
type system struct {
	store    store.Store
	publish  *publish.Service
	gateways *publish.Gateways
	authz    *authz.Server
	xds      *xds.Server
	metrics  *prometheus.Registry

	keyManagerHandler http.Handler // OAuth endpoints and management API
	tokenHandler      http.Handler // OAuth endpoints alone, for Envoy
	xdsServer         *grpc.Server
}

// wire builds every part and joins them.
func (d *daemon) wire(keys *Keys) (err error) {
	s := d.system
	s.metrics = prometheus.NewRegistry()
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.publish, err = publish.New(publish.Options{Store: s.store, Now: time.Now, Logger: d.log}); err != nil {
		return err
	}
	if s.gateways, err = publish.NewGateways(publish.GatewaysOptions{Now: time.Now}); err != nil {
		return err
	}
	valid, err := validator.New(validator.Options{Store: s.store, Tags: keys.Tags, Peppers: keys.Peppers, Now: time.Now})
	if err != nil {
		return err
	}
	if err := d.wireAuthz(keys, valid); err != nil {
		return err
	}
	if err := d.wireXDS(); err != nil {
		return err
	}
	if err := d.wireHTTP(keys, valid); err != nil {
		return err
	}
	d.ready.add("database", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return s.store.Ping(ctx)
	})
	d.ready.add("authz", s.authz.Ready)
	d.ready.add("xds", s.xds.Ready)
	return nil
}

// wireAuthz builds the decision point, with its caches before the key manager.
func (d *daemon) wireAuthz(keys *Keys, keyManager keymanager.Validator) error {
	cached, uncached, err := verdicts(d.cfg.Authz, keyManager, time.Now, d.log, d.metrics)
	if err != nil {
		return err
	}
	d.authz, err = authz.New(authz.Options{
		ID: instance("authz"), Group: d.cfg.Gateway.Group, Validator: cached, Uncached: uncached,
		Catalog: d.publish, Revocations: d.publish, Gateways: d.gateways, Tags: keys.Tags,
		MaxStale: time.Duration(d.cfg.Authz.MaxStale), Now: time.Now, Logger: d.log,
	})
	if err != nil {
		return err
	}
	return d.metrics.Register(d.authz)
}

// wireXDS builds the control plane and the gRPC server that it is served on.
func (d *daemon) wireXDS() (err error) {
	group, err := d.group()
	if err != nil {
		return err
	}
	d.xds, err = xds.New(xds.Options{
		ID: instance("xds"), Catalog: d.publish, Gateways: d.gateways, Groups: []xds.Group{group},
		Now: time.Now, Logger: d.log, Metrics: d.metrics,
	})
	if err != nil {
		return err
	}
	d.xdsServer = grpc.NewServer(xds.ServerOptions(nil)...)
	d.xds.Register(d.xdsServer)
	return nil
}

// group is the gateway group that this process serves.
func (d *daemon) group() (xds.Group, error) {
	g := d.cfg.Gateway
	address, err := netip.ParseAddrPort(g.Address)
	if err != nil {
		return xds.Group{}, fmt.Errorf("gateway.address: %w", err)
	}
	return xds.Group{
		Name: g.Group, Hosts: g.Hosts,
		Listeners:   []xds.Listener{{Address: address.Addr().String(), Port: address.Port()}},
		TrustedHops: uint32(g.TrustedHops), // checked: 0 to 10
		AccessLog:   g.AccessLog,
		KeyManager:  xds.KeyManager{Addresses: []string{"unix:" + d.tokenSocket.Addr().String()}},
		CAFile:      caFile(g.CAFile),
	}, nil
}

// caFile returns the configured file, or the system's: each distribution has
// its own place for it. "" where there is none: https back ends are refused.
func caFile(configured string) string {
	if configured != "" {
		return configured
	}
	for _, path := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if there, err := exists(path); err == nil && there {
			return path
		}
	}
	return ""
}

// wireHTTP builds what the key manager serves over HTTP.
func (d *daemon) wireHTTP(keys *Keys, valid keymanager.Validator) error {
	minter := token.NewMinter(keys.Tags, rand.Reader)
	endpoints, err := oauth.New(oauth.Options{
		Store: d.store, Minter: minter, Tags: keys.Tags, Peppers: keys.Peppers,
		Issuer: d.cfg.issuer(), TokenLifetime: time.Duration(d.cfg.KeyManager.TokenLifetime),
		ClientAddress: clientAddress, Confirm: d.confirm, Now: time.Now, Logger: d.log,
	})
	if err != nil {
		return err
	}
	who := authenticator{valid}
	management, err := admin.New(admin.Options{
		Store: d.store, Minter: minter, Peppers: keys.Peppers, Authenticator: who,
		Gateways: d.gateways, Confirm: d.gateways.Wait, Now: time.Now, Logger: d.log, Version: version,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", endpoints.Handler())
	mux.Handle("/api/", management)
	mux.Handle("POST "+explainPath, explainHandler{who, d.authz, d.cfg.Gateway.Hosts, d.log})
	d.keyManagerHandler = mux
	d.tokenHandler = fromGateway(endpoints.Handler())
	return nil
}

// confirm gives the gateways of this process a moment to take up a revocation
// before it is answered.
func (d *daemon) confirm(ctx context.Context, p keymanager.Position) error {
	ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	return d.gateways.Wait(ctx, p)
}

// gatewayPeer is the context key of a request that came through Envoy.
type gatewayPeer struct{}

// fromGateway marks requests of the socket that only Envoy knows.
func fromGateway(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), gatewayPeer{}, true)))
	})
}

// clientAddress returns where a request of an OAuth endpoint comes from: what
// Envoy says of those that it passes on, the TCP peer of all others.
func clientAddress(r *http.Request) netip.Addr {
	if r.Context().Value(gatewayPeer{}) != nil {
		addr, _ := netip.ParseAddr(r.Header.Get(envoy.HeaderClientAddress))
		return addr
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(host)
	return addr
}

// instance names a part of this process among others.
func instance(part string) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return fmt.Sprintf("%s-%s-%d", part, host, os.Getpid())
}
