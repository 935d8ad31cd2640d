package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"path/filepath"
	"time"
)

// daemon is a server process: everything that it owns, from start to end.
type daemon struct {
	cfg   Config
	log   *slog.Logger
	state *State
	*system

	keyManager, ops            net.Listener
	tokenSocket                net.Listener // the token endpoint, for Envoy alone
	authzListener, xdsListener net.Listener
	credentials                Credentials // of the built-in application
	ready                      readiness
}

// newDaemon takes what the process needs, in an order that leaves nothing
// behind when something is missing: the state folder, the addresses, the keys
// and the database, and then the parts themselves.
func newDaemon(ctx context.Context, cfg Config, log *slog.Logger) (*daemon, error) {
	tuneMemory()
	d := &daemon{cfg: cfg, log: log}
	if err := d.open(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *daemon) open(ctx context.Context) (err error) {
	if d.state, err = openState(d.cfg.State.Dir); err != nil {
		return err
	}
	if err = d.listen(ctx); err != nil {
		return err
	}
	keys, err := loadKeys(d.cfg.Keys, d.state, rand.Reader)
	if err != nil {
		return err
	}
	d.system = &system{}
	if d.store, err = openStore(ctx, &d.cfg, d.state, d.log); err != nil {
		return err
	}
	if d.credentials, err = firstStart(ctx, d.store, keys, d.state, serverURL(d.keyManager.Addr()), d.log); err != nil {
		return err
	}
	return d.wire(keys) //nolint:contextcheck // what the parts begin ends with run, not with the start
}

// listen opens every address, so that a taken one ends the start at once.
func (d *daemon) listen(ctx context.Context) (err error) {
	if d.keyManager, err = listenTCP(ctx, "key manager", "--keymanager", d.cfg.KeyManager.Address); err != nil {
		return err
	}
	if d.ops, err = listenTCP(ctx, "ops", "--ops", d.cfg.Ops.Address); err != nil {
		return err
	}
	if d.tokenSocket, err = listenUnix(ctx, "token endpoint", d.tokenSocketPath()); err != nil {
		return err
	}
	if d.authzListener, err = listenUnix(ctx, "authz", d.authzSocket()); err != nil {
		return err
	}
	address := d.xdsAddress()
	if filepath.IsAbs(address) {
		d.xdsListener, err = listenUnix(ctx, "xds", address)
	} else {
		d.xdsListener, err = listenTCP(ctx, "xds", "xds.address in the configuration", address)
	}
	return err
}

func (d *daemon) tokenSocketPath() string {
	if d.cfg.KeyManager.Socket != "" {
		return d.cfg.KeyManager.Socket
	}
	return d.state.Socket(fileTokenSock)
}

func (d *daemon) authzSocket() string {
	if d.cfg.Authz.Socket != "" {
		return d.cfg.Authz.Socket
	}
	return d.state.Socket(fileAuthzSock)
}

func (d *daemon) xdsAddress() string {
	if d.cfg.XDS.Address != "" {
		return d.cfg.XDS.Address
	}
	return d.state.Socket(fileXDSSock)
}

// run runs everything, front last, until ctx ends or a part fails; up is called
// once, when the process is ready.
func (d *daemon) run(ctx context.Context, front []task, up func(context.Context) error) error {
	background := []task{
		{"publish", d.publish.Run},
		{"authz", d.authz.Run},
		{"xds", d.xds.Run},
		{"expired tokens", d.sweepTokens},
		httpTask("ops", d.ops, newOps(&d.ready, d.metrics), d.log),
	}
	servers := []task{
		httpTask("key manager", d.keyManager, d.keyManagerHandler, d.log),
		httpTask("token endpoint", d.tokenSocket, d.tokenHandler, d.log),
		grpcTask("authz", d.authzListener, d.authz.GRPC(), drainTime),
		grpcTask("xds", d.xdsListener, d.xdsServer, 0), // Envoy's stream has no end
	}
	front = append(front, task{"start", func(ctx context.Context) error {
		if !d.waitReady(ctx) {
			return nil // the process ends before it was ready
		}
		return up(ctx)
	}})
	d.ready.set(true)
	ended := context.AfterFunc(ctx, func() { d.ready.set(false) })
	defer ended()
	return runStages(ctx, background, servers, front)
}

// waitReady waits until nothing is missing. It says now and then what is.
func (d *daemon) waitReady(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		missing := d.ready.missing()
		if len(missing) == 0 {
			return true
		}
		if time.Since(said) > 5*time.Second {
			d.log.Warn("not ready yet", "missing", missing)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// close gives back what newDaemon has taken. Closing twice is harmless.
func (d *daemon) close() {
	for _, l := range []net.Listener{d.keyManager, d.ops, d.tokenSocket, d.authzListener, d.xdsListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	if d.system != nil && d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Error("closing the database", "error", err)
		}
	}
	if d.state != nil {
		_ = d.state.Close()
	}
}

// sweepTokens removes tokens that have expired a day ago: until then an expired
// one is told from one that never was.
func (d *daemon) sweepTokens(ctx context.Context) error {
	const batch = 1000
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for n := batch; n == batch && ctx.Err() == nil; {
			var err error
			if n, err = d.store.DeleteExpiredTokens(ctx, time.Now().Add(-24*time.Hour), batch); err != nil {
				if ctx.Err() == nil {
					d.log.Warn("expired tokens are not removed", "error", err)
				}
				break
			}
		}
	}
}
