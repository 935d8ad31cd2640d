package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// target is one of ClientOptions.Targets: a socket, or a host and a port.
type target struct {
	socket string
	host   string
	port   uint16
	addr   netip.Addr // of a host that is an address
	local  bool       // only loopback addresses may be used
}

func parseTarget(s string, plaintext bool) (target, error) {
	if filepath.IsAbs(s) {
		return target{socket: s}, nil
	}
	host, digits, err := net.SplitHostPort(s)
	port, badPort := strconv.ParseUint(digits, 10, 16)
	if err != nil || badPort != nil || host == "" || port == 0 {
		return target{}, fmt.Errorf("rpc: the target %q is neither HOST:PORT nor the absolute path of a socket", s)
	}
	t := target{host: host, port: uint16(port), local: plaintext}
	if addr, err := netip.ParseAddr(host); err == nil {
		t.addr = addr
	}
	loopback := t.addr.IsValid() && t.addr.Unmap().IsLoopback() || host == "localhost"
	if plaintext && !loopback {
		return target{}, fmt.Errorf("rpc: the target %q is another machine: without TLS only loopback addresses and sockets are allowed", s)
	}
	return t, nil
}

func checkTLS(o ClientOptions) error {
	switch t := o.TLS; {
	case t == nil:
		return nil
	case o.TrustDomain == "":
		return errors.New("rpc: with TLS, ClientOptions needs TrustDomain")
	case t.RootCAs == nil:
		return errors.New("rpc: ClientOptions.TLS needs RootCAs: the authorities of the key managers' certificates")
	case t.InsecureSkipVerify:
		return errors.New("rpc: ClientOptions.TLS does not verify the key managers' certificates")
	}
	if o.TLS.ServerName == "" && slices.ContainsFunc(o.Targets, filepath.IsAbs) {
		return errors.New("rpc: with TLS over a socket, ClientOptions.TLS needs ServerName")
	}
	return nil
}

// endpoint is one address of a key manager, and the connection to it.
type endpoint struct {
	network, address string
	host             string // as the target says
	listed           bool   // of resolve alone
	conn             *grpc.ClientConn
	keyManager       pb.KeyManagerClient
	health           healthpb.HealthClient
	calls            atomic.Int64  // under way, without streams
	unwell           atomic.Bool   // a probe finds out when that is over
	gone             atomic.Bool   // no longer an address of any target
	woken            atomic.Int64  // when wake last had it connect, in Unix nanoseconds
	probe            chan struct{} // asks for a probe now
}

func (c *Client) newEndpoint(t target, network, address string) (*endpoint, error) {
	e := &endpoint{network: network, address: address, host: t.host, probe: make(chan struct{}, 1)}
	creds := insecure.NewCredentials()
	if c.opts.TLS != nil {
		creds = credentials.NewTLS(c.tls(t))
	}
	dialer := &net.Dialer{}
	var err error
	e.conn, err = grpc.NewClient("passthrough:///"+keyManagerAuthority,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, e.network, e.address)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // Validate is asked again elsewhere
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second, PermitWithoutStream: true}),
		// What a receiver has not taken stays with the key manager.
		grpc.WithInitialWindowSize(1<<20),
		grpc.WithInitialConnWindowSize(4<<20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxToClient), grpc.MaxCallSendMsgSize(maxToServer)),
	)
	if err != nil {
		return nil, fmt.Errorf("rpc: %s: %w", e.address, err)
	}
	e.keyManager, e.health = pb.NewKeyManagerClient(e.conn), healthpb.NewHealthClient(e.conn)
	e.conn.Connect()
	return e, nil
}

// keyManagerAuthority stands in :authority where TLS names nobody.
const keyManagerAuthority = "keymanager"

// tls returns the configuration for a target: its certificate is verified for
// the name as usual, and must be that of a key manager.
func (c *Client) tls(t target) *tls.Config {
	cfg := c.opts.TLS.Clone()
	cfg.MinVersion = tls.VersionTLS13
	if cfg.ServerName == "" {
		cfg.ServerName = t.host
	}
	also := cfg.VerifyConnection
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server shows no certificate")
		}
		who, err := keymanager.ParsePeer(c.opts.TrustDomain, state.PeerCertificates[0])
		if err != nil {
			return err
		}
		if who.Role != keymanager.RoleKeyManager {
			return keymanager.Errorf(keymanager.KindForbidden, "the server is %s, not a key manager", who)
		}
		if also != nil {
			return also(state)
		}
		return nil
	}
	return cfg
}

// all returns the endpoints that there are now.
func (c *Client) all() []*endpoint {
	if list := c.endpoints.Load(); list != nil {
		return *list
	}
	return nil
}

// await waits until there is an endpoint, or every name was looked up.
func (c *Client) await(ctx context.Context) error {
	if len(c.all()) == 0 {
		select {
		case <-c.resolved:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.ctx.Err() != nil:
		return keymanager.Errorf(keymanager.KindUnavailable, "the client of the key managers is closed")
	case len(c.all()) == 0:
		c.lookUpNow()
		return keymanager.Errorf(keymanager.KindUnavailable, "no address is known for %s", strings.Join(c.opts.Targets, ", "))
	}
	return nil
}

// pick returns the endpoint with fewer calls under way of two random ones that
// are well and not to be avoided: if there is none, of those that are not to be
// avoided, and as the last choice any.
func (c *Client) pick(ctx context.Context, avoid *endpoint) (*endpoint, error) {
	if err := c.await(ctx); err != nil {
		return nil, err
	}
	all := c.all()
	choose := func(ok func(*endpoint) bool) *endpoint {
		var candidates []*endpoint
		for _, e := range all {
			if ok(e) {
				candidates = append(candidates, e)
			}
		}
		if len(candidates) == 0 {
			return nil
		}
		a, b := candidates[rand.N(len(candidates))], candidates[rand.N(len(candidates))] //nolint:gosec // nothing secret
		if b.calls.Load() < a.calls.Load() {
			return b
		}
		return a
	}
	if e := choose(func(e *endpoint) bool { return e != avoid && !e.unwell.Load() }); e != nil {
		return e, nil
	}
	c.lookUpNow()
	if e := choose(func(e *endpoint) bool { return e != avoid }); e != nil {
		return e, nil
	}
	return all[0], nil
}
