package main

import (
	"context"
	"net"
	"time"
)

// listeners are the addresses of a process; nil for what it does not serve.
type listeners struct {
	opsListener    net.Listener
	keyManager     net.Listener // token endpoint and management API
	tokenSocket    net.Listener // the token endpoint, for Envoy alone
	rpcListener    net.Listener
	authzListener  net.Listener
	remoteListener net.Listener // authz, for remote Envoys
	xdsListener    net.Listener
}

func (l *listeners) all() []net.Listener {
	var open []net.Listener
	for _, l := range []net.Listener{l.opsListener, l.keyManager, l.tokenSocket, l.rpcListener, l.authzListener, l.remoteListener, l.xdsListener} {
		if l != nil {
			open = append(open, l)
		}
	}
	return open
}

// listen opens every address, so that a taken one ends the start at once.
func (d *daemon) listen(ctx context.Context) (err error) {
	if d.roles.authz {
		if err = d.listenAuthz(ctx); err != nil {
			return err
		}
	}
	if d.opsListener, err = d.listenTCP(ctx, "ops", "--ops", d.cfg.Ops.Address); err != nil {
		return err
	}
	if d.roles.keyManager {
		if err = d.listenKeyManager(ctx); err != nil {
			return err
		}
	}
	if d.roles.xds {
		d.xdsListener, err = listenAt(ctx, "xds", "xds.address in the configuration", d.xdsAddress())
	}
	return err
}

func (d *daemon) listenKeyManager(ctx context.Context) (err error) {
	if d.keyManager, err = listenTCP(ctx, "key manager", "--keymanager", d.cfg.KeyManager.Address); err != nil {
		return err
	}
	if d.tokenSocket, err = listenUnix(ctx, "token endpoint", d.tokenSocketPath()); err != nil {
		return err
	}
	if address := d.rpcAddress(); address != "" {
		d.rpcListener, err = listenAt(ctx, "rpc", "rpc.address in the configuration", address)
	}
	return err
}

// listenAuthz opens the socket for the Envoys of this machine, and the address
// for remote ones.
func (d *daemon) listenAuthz(ctx context.Context) (err error) {
	if d.mayTakeOver() {
		d.authzListener, err = listenUnixNext(ctx, "authz", d.authzSocket())
	} else {
		d.authzListener, err = listenUnix(ctx, "authz", d.authzSocket())
	}
	if err != nil || d.cfg.Authz.Address == "" {
		return err
	}
	d.remoteListener, err = d.listenTCP(ctx, "authz", "authz.address in the configuration", d.cfg.Authz.Address)
	return err
}

// listenTCP listens on an address. A process that takes over from another one
// gets its addresses when that one ends.
func (d *daemon) listenTCP(ctx context.Context, what, flag, address string) (net.Listener, error) {
	if !d.takesOver() {
		return listenTCP(ctx, what, flag, address)
	}
	return &lateListener{what: what, address: address, log: d.log, done: make(chan struct{})}, nil
}

// listenAt listens on a socket or an address.
func listenAt(ctx context.Context, what, flag, address string) (net.Listener, error) {
	if isSocket(address) {
		return listenUnix(ctx, what, address)
	}
	return listenTCP(ctx, what, flag, address)
}

// keepSockets puts sockets back whose files somebody else has removed, as
// cleaners of temporary folders do.
func (d *daemon) keepSockets(ctx context.Context) error {
	return every(ctx, time.Second, func() error {
		for _, l := range d.all() {
			s, ok := l.(*unixSocket)
			if !ok {
				continue
			}
			if again, err := s.restore(ctx); err != nil {
				d.log.Error("the file of a socket was removed, and cannot be made again: nobody new can connect. Make its folder, or restart", "socket", s.path, "error", err)
			} else if again {
				d.log.Warn("the file of a socket was removed; it is there again. Keep what cleans up away from it", "socket", s.path)
			}
		}
		return nil
	})
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

// rpcAddress is where the key manager serves other processes; "" where
// everything runs in this one, and no Envoy tells of usage.
func (d *daemon) rpcAddress() string {
	switch {
	case d.cfg.RPC.Address != "":
		return d.cfg.RPC.Address
	case d.roles.authz && d.roles.xds && !d.cfg.Gateway.Usage:
		return ""
	}
	return d.state.Socket(fileRPCSock)
}

// rpcServers are the key managers that this process asks.
func (d *daemon) rpcServers() []string {
	if len(d.cfg.RPC.Servers) > 0 {
		return d.cfg.RPC.Servers
	}
	return []string{d.state.Socket(fileRPCSock)}
}

// keyManagerURL is where the management API is.
func (d *daemon) keyManagerURL() string {
	if d.https != nil {
		return "https://" + d.keyManager.Addr().String()
	}
	return serverURL(d.keyManager.Addr())
}
