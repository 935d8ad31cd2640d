package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/token"
	"tollgate/keymanager/validator"
)

// wireKeyManager builds the services of the key manager.
func (d *daemon) wireKeyManager() (c contracts, err error) {
	if d.publish, err = publish.New(publish.Options{Store: d.store, Now: time.Now, Logger: d.log}); err != nil {
		return c, err
	}
	d.gateways, err = publish.NewGateways(publish.GatewaysOptions{
		Now: time.Now, Shared: d.store, ID: d.instance(keymanager.RoleKeyManager), Logger: d.log,
	})
	if err != nil {
		return c, err
	}
	valid, err := validator.New(validator.Options{Store: d.store, Tags: d.keys.Tags, Peppers: d.keys.Peppers, Now: time.Now})
	if err != nil {
		return c, err
	}
	sweeper, err := publish.NewSweeper(publish.SweeperOptions{Store: d.store, Now: time.Now, Logger: d.log})
	if err != nil {
		return c, err
	}
	if err := d.metrics.Register(sweeper); err != nil {
		return c, err
	}
	d.background = append(d.background, task{"publish", d.publish.Run}, task{"gateways", d.gateways.Run}, task{"expired tokens", sweeper.Run},
		task{"how far the log is", d.remember})
	if err := d.pruneUsage(); err != nil {
		return c, err
	}
	// Not a condition of readiness: a balancer would take every key manager away
	// at once, with what they can answer without the database.
	d.ready.note("database", d.pingDatabase)
	err = d.metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tollgate_database_up", Help: "1 while the database answers this key manager, else 0.",
	}, func() float64 {
		if d.pingDatabase() != nil {
			return 0
		}
		return 1
	}))
	return contracts{valid, d.publish, d.publish, d.gateways, func() error { return nil }}, err
}

func (d *daemon) pingDatabase() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return d.store.Ping(ctx)
}

// serveKeyManager builds what the key manager serves: HTTP for everybody, the
// token endpoint for the Envoy of this machine, and the contracts for authz and
// xds in other processes.
func (d *daemon) serveKeyManager(c contracts) error {
	endpoints, management, err := d.handlers(c.validator)
	if err != nil {
		return err
	}
	drain := time.Duration(d.cfg.Ops.DrainTime)
	l := d.keyManager
	if d.https != nil {
		l = tls.NewListener(l, d.https.server(d.identity))
	}
	d.serving = append(d.serving,
		httpTask("key manager", l, d.closing(d.fromPeers(management)), drain, d.log),
		httpTask("token endpoint", d.tokenSocket, d.closing(fromGateway(endpoints)), drain, d.log),
	)
	d.keyManagerHandler = management
	if d.rpcListener == nil {
		return nil
	}
	return d.serveRPC(c)
}

// handlers returns the OAuth endpoints alone, and with the management API.
func (d *daemon) handlers(valid keymanager.Validator) (oauthOnly, all http.Handler, err error) {
	minter := token.NewMinter(d.keys.Tags, rand.Reader)
	endpoints, err := oauth.New(oauth.Options{
		Store: d.store, Minter: minter, Tags: d.keys.Tags, Peppers: d.keys.Peppers,
		Issuer: d.cfg.issuer(), TokenLifetime: time.Duration(d.cfg.KeyManager.TokenLifetime),
		ClientAddress: clientAddress, Confirm: d.confirm, Now: time.Now, Logger: d.log,
	})
	if err != nil {
		return nil, nil, err
	}
	who := authenticator{valid}
	management, err := admin.New(admin.Options{
		Store: d.store, Minter: minter, Peppers: d.keys.Peppers, Authenticator: who,
		Gateways: d.gateways, Validator: valid, Confirm: d.gateways.Wait, Now: time.Now, Logger: d.log, Version: version,
	})
	if err != nil {
		return nil, nil, err
	}
	explain, err := d.explainer(valid)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", endpoints.Handler())
	mux.Handle("/api/", management)
	mux.Handle("POST "+explainPath, explainHandler{who, explain, d.cfg.hosts(), d.log})
	figures := newHTTPFigures()
	return figures.count(endpoints.Handler()), figures.count(mux), d.metrics.Register(figures)
}

// confirm gives the gateways a moment to take up a revocation before it is
// answered.
func (d *daemon) confirm(ctx context.Context, p keymanager.Position) error {
	ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	return d.gateways.Wait(ctx, p)
}

// gatewayPeer is the context key of a request that came through Envoy.
type gatewayPeer struct{}

// fromPeers marks requests of Envoys that prove themselves by their
// certificate.
func (d *daemon) fromPeers(next http.Handler) http.Handler {
	if d.https == nil || d.identity == nil {
		return next
	}
	marked := fromGateway(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			peer, err := keymanager.VerifiedPeer(d.cfg.TLS.TrustDomain, *r.TLS)
			if err == nil && peer.Role == keymanager.RoleGateway {
				marked.ServeHTTP(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// closing tells clients to connect elsewhere next time, from the moment on that
// the process is about to end.
func (d *daemon) closing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.ready.ending() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// fromGateway marks requests that only Envoy can have sent.
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
