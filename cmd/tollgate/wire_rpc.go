package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"tollgate/keymanager"
	"tollgate/keymanager/rpc"
)

// rpcService answers for the contracts.
func (d *daemon) rpcService(c contracts) (*rpc.Server, error) {
	service, err := rpc.NewServer(rpc.ServerOptions{
		Validator: c.validator, Catalog: c.catalog, Revocations: c.revocations, Gateways: c.gateways,
		TrustDomain: d.cfg.TLS.TrustDomain, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	return service, d.metrics.Register(service)
}

// serveRPC serves the contracts to authz and xds in other processes.
func (d *daemon) serveRPC(c contracts) error {
	service, err := d.rpcService(c)
	if err != nil {
		return err
	}
	opts := rpc.GRPCOptions()
	if d.identity != nil && !isSocket(d.rpcAddress()) {
		opts = append(opts, grpc.Creds(credentials.NewTLS(d.identity.mutual())))
	}
	server := grpc.NewServer(opts...)
	service.Register(server)
	usage, err := d.usageReceiver()
	if err != nil {
		return err
	}
	usage.Register(server)
	t := grpcTask("rpc", server, time.Duration(d.cfg.Ops.DrainTime), d.rpcListener)
	d.serving = append(d.serving, task{t.name, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, service.Drain)() // streams have no end of their own
		defer context.AfterFunc(ctx, usage.Drain)()
		return t.run(ctx)
	}})
	return nil
}

// dialKeyManagers connects to key managers in other processes.
func (d *daemon) dialKeyManagers() (contracts, error) {
	k := &keyManagers{d: d, servers: d.rpcServers()}
	if err := k.connect(); err != nil {
		return contracts{}, err
	}
	d.closers = append(d.closers, k)
	if d.identity != nil && overNetwork(k.servers) {
		d.background = append(d.background, task{"authorities of the key managers", k.followAuthorities})
	}
	return contracts{k, k, k, k, k.reached}, nil
}

// keyManagers are those of other processes. The client below is replaced when
// the authorities of their certificates change.
type keyManagers struct {
	d       *daemon
	servers []string

	client   atomic.Pointer[rpc.Client]
	reported atomic.Pointer[error] // what became of the last report; nil = none yet
	retiring sync.WaitGroup
}

func (k *keyManagers) connect() error {
	o := rpc.ClientOptions{Targets: k.servers, Logger: k.d.log}
	if k.d.identity != nil && overNetwork(k.servers) {
		o.TrustDomain = k.d.cfg.TLS.TrustDomain
		o.TLS = k.d.identity.client(k.d.cfg.RPC.ServerName)
	}
	c, err := rpc.NewClient(o)
	if err != nil {
		return err
	}
	k.client.Store(c)
	return nil
}

// retireAfter is how long a client that was replaced may finish its calls.
const retireAfter = 10 * time.Second

// followAuthorities connects anew when the file of the authorities has changed.
func (k *keyManagers) followAuthorities(ctx context.Context) error {
	used := k.d.identity.current.Load().roots
	return every(ctx, reloadEvery, func() error {
		now := k.d.identity.current.Load().roots
		if now.Equal(used) {
			return nil
		}
		old := k.client.Load()
		if err := k.connect(); err != nil { //nolint:contextcheck // it ends with Close
			return err
		}
		used = now
		k.retiring.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(retireAfter):
			}
			_ = old.Close()
		})
		return nil
	})
}

// Close ends all connections.
func (k *keyManagers) Close() error {
	k.retiring.Wait()
	return k.client.Load().Close()
}

// reached says that no key manager answers: a report goes to all of them each
// second.
func (k *keyManagers) reached() error {
	last := k.reported.Load()
	if last == nil || *last == nil {
		return nil
	}
	return fmt.Errorf("no key manager at %s answers: %w", strings.Join(k.servers, ", "), *last)
}

// Validate implements keymanager.Validator.
func (k *keyManagers) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	return k.client.Load().Validate(ctx, q)
}

// Watch implements keymanager.Catalog.
func (k *keyManagers) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	return k.client.Load().Watch(ctx, from, kinds, fn)
}

// Follow implements keymanager.Revocations.
func (k *keyManagers) Follow(ctx context.Context, from keymanager.Position, fn func(keymanager.Event) error) error {
	return k.client.Load().Follow(ctx, from, fn)
}

// Report implements keymanager.Gateways.
func (k *keyManagers) Report(ctx context.Context, s keymanager.GatewayState) error {
	err := k.client.Load().Report(ctx, s)
	if ctx.Err() == nil || k.reported.Load() == nil { // not when it was only given up
		k.reported.Store(&err)
	}
	return err
}

// client returns the configuration for connections to servers of ours. The
// certificate is that of the moment, the authorities are those of now.
func (c *certificates) client(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: serverName, RootCAs: c.current.Load().roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &c.current.Load().cert, nil
		},
	}
}
