package main

import (
	"context"
	"net"
	"slices"
	"time"

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
		MaxStale: time.Duration(d.cfg.Authz.MaxStale), Now: time.Now, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.ready.add("authz", c.missing(d.authz.Ready))
	d.background = append(d.background, task{"authz", d.authz.Run})
	if over, ok := d.authzListener.(*unixSocket); ok && d.mayTakeOver() {
		d.background = append(d.background, task{"authz socket", func(ctx context.Context) error { return d.holdSocket(ctx, over) }})
	}
	d.serving = append(d.serving, task{"authz", func(ctx context.Context) error {
		listeners := slices.DeleteFunc([]net.Listener{d.authzListener, d.remoteListener}, func(l net.Listener) bool { return l == nil })
		return grpcTask("authz", d.authz.GRPC(), time.Duration(d.cfg.Ops.DrainTime), listeners...).run(ctx) // has goroutines from here on
	}})
	return d.metrics.Register(d.authz)
}
