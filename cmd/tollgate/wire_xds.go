package main

import (
	"context"
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
	groups, err := d.groups()
	if err != nil {
		return err
	}
	certs, err := readGatewayCertificates(d.cfg.XDS.Certificates, d.log)
	if err != nil {
		return err
	}
	d.xds, err = xds.New(xds.Options{
		ID: d.instance(keymanager.RoleXDS), Catalog: c.catalog, Gateways: c.gateways,
		Groups: groups, Certificates: certs.list, TrustDomain: d.cfg.TLS.TrustDomain,
		Now: time.Now, Logger: d.log, Metrics: d.metrics,
	})
	if err != nil {
		return err
	}
	if len(certs.cfg) > 0 {
		d.background = append(d.background, task{"certificates for Envoys", func(ctx context.Context) error {
			return certs.follow(ctx, d.xds.SetCertificates)
		}})
	}
	var secured *tls.Config
	if d.identity != nil && !isSocket(d.xdsAddress()) {
		secured = d.identity.mutual() // xds checks each stream
	}
	server := grpc.NewServer(xds.ServerOptions(secured)...)
	d.xds.Register(server)
	d.ready.add("xds", c.missing(d.xds.Ready))
	d.background = append(d.background, task{"xds", d.xds.Run})
	if !d.roles.keyManager {
		d.background = append(d.background, task{"memory", balanceTables})
	}
	d.serving = append(d.serving, grpcTask("xds", server, 0, d.xdsListener)) // Envoy's stream has no end
	return nil
}

// groups are the gateway groups that this process serves.
func (d *daemon) groups() ([]xds.Group, error) {
	list := d.cfg.XDS.Groups
	if len(list) == 0 {
		list = []GroupConfig{d.shortGroup()}
	}
	var out []xds.Group
	for i := range list {
		g := &list[i]
		group := xds.Group{
			Name: g.Name, Hosts: g.Hosts,
			TrustedHops: uint32(g.TrustedHops), // checked: 0 to 10
			AccessLog:   g.AccessLog,
			Usage:       g.Usage,
			CAFile:      caFile(g.CAFile),
			KeyManager: xds.KeyManager{
				Addresses: g.KeyManager.Addresses, CA: g.KeyManager.CA, ServerName: g.KeyManager.ServerName,
				ClientCertificate: g.KeyManager.ClientCertificate,
			},
		}
		for j := range g.Listeners {
			l, err := groupListener(&g.Listeners[j])
			if err != nil {
				return nil, fmt.Errorf("xds.groups[%d].listeners[%d]: %w", i, j, err)
			}
			group.Listeners = append(group.Listeners, l)
		}
		group.AuthzTimeout = time.Duration(d.cfg.XDS.AuthzTimeout)
		out = append(out, group)
	}
	return out, nil
}

// shortGroup is the group of the section gateway: Envoys on this machine, where
// the token endpoint is a socket.
func (d *daemon) shortGroup() GroupConfig {
	g := &d.cfg.Gateway
	return GroupConfig{
		Name: g.Group, Hosts: g.Hosts, TrustedHops: g.TrustedHops, CAFile: g.CAFile, AccessLog: g.AccessLog, Usage: g.Usage,
		Listeners:  []ListenerConfig{{Address: g.Address, Certificates: g.Certificates}},
		KeyManager: UpstreamConfig{Addresses: []string{"unix:" + d.tokenSocketPath()}},
	}
}

func groupListener(l *ListenerConfig) (xds.Listener, error) {
	address, err := netip.ParseAddrPort(l.Address)
	if err != nil {
		return xds.Listener{}, err
	}
	out := xds.Listener{Address: address.Addr().String(), Port: address.Port(), RedirectTo: uint16(l.RedirectTo)} // checked: a port
	if len(l.Certificates) > 0 {
		out.TLS = &xds.ListenerTLS{
			Certificates: l.Certificates, MinVersion: l.minVersion(), ClientCA: l.ClientCA, ClientOptional: l.ClientOptional,
		}
	}
	return out, nil
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
