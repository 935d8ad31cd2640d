package main

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/grpc"

	"tollgate/keymanager"
	"tollgate/xds"
)

// wireXDS builds the control plane and the gRPC server that it is served on.
func (d *daemon) wireXDS(c contracts) (err error) {
	group, err := d.group()
	if err != nil {
		return err
	}
	d.xds, err = xds.New(xds.Options{
		ID: d.instance(keymanager.RoleXDS), Catalog: c.catalog, Gateways: c.gateways, Groups: []xds.Group{group},
		TrustDomain: d.cfg.TLS.TrustDomain, Now: time.Now, Logger: d.log, Metrics: d.metrics,
	})
	if err != nil {
		return err
	}
	var secured *tls.Config
	if d.identity != nil && !isSocket(d.xdsAddress()) {
		secured = d.identity.mutual(anyPeer) // xds checks each stream
	}
	server := grpc.NewServer(xds.ServerOptions(secured)...)
	d.xds.Register(server)
	d.ready.add("xds", c.missing(d.xds.Ready))
	d.background = append(d.background, task{"xds", d.xds.Run})
	d.serving = append(d.serving, grpcTask("xds", server, 0, d.xdsListener)) // Envoy's stream has no end
	return nil
}

// group is the gateway group that this process serves.
func (d *daemon) group() (xds.Group, error) {
	g := d.cfg.Gateway
	address, err := netip.ParseAddrPort(g.Address)
	if err != nil {
		return xds.Group{}, fmt.Errorf("gateway.address: %w", err)
	}
	group := xds.Group{
		Name: g.Group, Hosts: g.Hosts,
		Listeners:   []xds.Listener{{Address: address.Addr().String(), Port: address.Port()}},
		TrustedHops: uint32(g.TrustedHops), // checked: 0 to 10
		AccessLog:   g.AccessLog,
		CAFile:      caFile(g.CAFile),
	}
	socket := d.cfg.KeyManager.Socket
	if socket == "" {
		socket = d.state.Socket(fileTokenSock)
	}
	group.KeyManager = xds.KeyManager{Addresses: []string{"unix:" + socket}}
	return group, nil
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
