package main

import (
	"context"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"tollgate/authz"
	"tollgate/keymanager"
)

// wireAuthz builds the decision point, with its caches before the key manager.
func (d *daemon) wireAuthz(c contracts) error {
	cached, uncached, err := d.verdicts(c.validator)
	if err != nil {
		return err
	}
	d.authz, err = authz.New(authz.Options{
		ID: d.instance(keymanager.RoleAuthz), Group: d.cfg.Gateway.Group, Validator: cached, Uncached: uncached,
		Catalog: c.catalog, Revocations: c.revocations, Gateways: c.gateways, Tags: d.keys.Tags,
		MaxStale: time.Duration(d.cfg.Authz.MaxStale), TrustDomain: d.cfg.TLS.TrustDomain,
		Watchdog: time.Duration(d.cfg.Authz.Watchdog), OnHung: d.hung, Now: time.Now, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.ready.add("authz", c.missing(d.authz.Ready))
	d.background = append(d.background, task{"authz", d.authz.Run})
	if small(d.roles) {
		d.background = append(d.background, task{"memory", balanceMemory})
	}
	if s, ok := d.authzListener.(*unixSocket); ok && d.mayTakeOver() {
		d.background = append(d.background, task{"authz socket", func(ctx context.Context) error { return d.holdSocket(ctx, s) }})
	}
	local := func() (*grpc.Server, error) { return d.authz.GRPC(), nil }
	if d.remoteListener != nil && d.identity == nil { // a loopback address
		d.serveAuthz(local, d.authzListener, d.remoteListener)
		return d.metrics.Register(d.authz)
	}
	d.serveAuthz(local, d.authzListener)
	if d.remoteListener != nil {
		d.serveAuthz(func() (*grpc.Server, error) { return d.authz.Remote(d.identity.mutual()) }, d.remoteListener)
	}
	return d.metrics.Register(d.authz)
}

// serveAuthz adds a server of authz, which has goroutines as soon as it is made.
func (d *daemon) serveAuthz(server func() (*grpc.Server, error), on ...net.Listener) {
	d.serving = append(d.serving, task{"authz", func(ctx context.Context) error {
		g, err := server()
		if err != nil {
			return err
		}
		return grpcTask("authz", g, time.Duration(d.cfg.Ops.DrainTime), on...).run(ctx)
	}})
}

// hung ends a process whose decisions hang, at once: Envoy waits for answers as
// long as it holds its connections. authz has written why.
func (d *daemon) hung() {
	if d.logs != nil {
		d.logs.Flush(time.Second)
	}
	os.Exit(exitHung)
}

// exitHung is the exit code of a process that was ended by its watchdog.
const exitHung = 3
