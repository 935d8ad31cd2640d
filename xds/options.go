package xds

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// Options are what a Server is made of.
type Options struct {
	// ID names this instance in its reports.
	ID string
	// Catalog is what is published; required.
	Catalog keymanager.Catalog
	// Gateways is told what each Envoy has acknowledged and refused. nil = nobody.
	Gateways keymanager.Gateways
	// Groups are the gateway groups served, by name; at least one.
	Groups []Group
	// Certificates of listeners, of back ends and of the key manager, by name
	// (letters, digits, "-", "_"). SetCertificates replaces them. One that
	// cannot be used does not end the start: what needs it waits, and it is
	// reported.
	Certificates map[string]Certificate
	// TrustDomain is the trust domain of the Envoys' certificates (see
	// keymanager.ParsePeer). "" = no certificate is good: Envoys are served in
	// clear text alone, which is for this machine only, whatever is set here.
	TrustDomain string
	// StreamRate is how many streams an Envoy may open each second, StreamBurst
	// how many at once. Default 2 and 20.
	StreamRate  float64
	StreamBurst int
	// WarmTimeout is how long the routes of an API wait until Envoy has resolved
	// the names of its back ends (the acknowledgement of a cluster is
	// withheld while it warms). Default 5 s.
	WarmTimeout time.Duration
	// Grace is how long a cluster outlives its routes: a request that Envoy has
	// routed there may still wait for authz, or for a retry. Default 2 s;
	// negative = none.
	Grace time.Duration
	// RetryAfter is when an API that was refused is tried again although it has
	// not changed; the wait doubles with each refusal, up to 32 times as long.
	// Default 1 min; negative = never.
	RetryAfter time.Duration
	// StaleAfter is the silence of the catalog after which the phase is STALE.
	// Default 3 s.
	StaleAfter time.Duration

	Now     func() time.Time      // required
	Logger  *slog.Logger          // nil = silent
	Metrics prometheus.Registerer // nil = not exported
}

// Group is one gateway group: the Envoys whose node.cluster is Name get the
// same listeners and APIs.
type Group struct {
	Name string
	// Hosts serve the APIs that name no host of their own, and the key manager's
	// endpoints. Lower case, without port; "*.example.com" matches one or more
	// labels, "*" every host.
	Hosts     []string
	Listeners []Listener
	// TrustedHops is the number of trusted proxies in front of Envoy
	// (HttpConnectionManager.xff_num_trusted_hops).
	TrustedHops uint32
	// AccessLog is the file of the JSON access log, "/dev/stdout" for Envoy's
	// standard output, "" for none.
	AccessLog string
	// Usage has Envoys send a usage record of each call to the cluster
	// envoy.ClusterAccessLog. Every Envoy of the group must have been started with
	// it: one that has not refuses the listener.
	Usage bool
	// AuthzTimeout is how long Envoy waits for authz, all tries together; then it
	// answers 503. Default DefaultAuthzTimeout.
	AuthzTimeout time.Duration
	// KeyManager is the back end of the token endpoint and its neighbours.
	KeyManager KeyManager
	// CAFile holds the certificates that https back ends are verified against
	// which name no certificate of their own, in PEM, as Envoy sees the file.
	// Required for such a back end.
	CAFile string
}

// DefaultAuthzTimeout is more than authz gives a call of the key manager.
const DefaultAuthzTimeout = 500 * time.Millisecond

// KeyManager is where Envoys reach the key managers. The zero value makes no
// routes to them.
type KeyManager struct {
	// Addresses are http://host:port, https://host:port or unix:/path, all of
	// one scheme. A request that cannot be sent to one goes to another.
	Addresses []string
	// CA names the certificate (Options.Certificates) whose CAPEM verifies
	// https; "" = Group.CAFile.
	CA string
	// ClientCertificate names the certificate (Options.Certificates) whose key
	// pair Envoys show; "" = none. Of a gateway of the group: then the key
	// manager believes what Envoy says of the client's address, and clients behind
	// one Envoy are not taken for one another.
	ClientCertificate string
	// ServerName is what an https certificate must be issued to; "" = the host
	// of its address.
	ServerName string
}

// Listener is an address of Envoy: clear text, or TLS.
type Listener struct {
	Address string // an IP address
	Port    uint16 // 0 = chosen by Envoy
	TLS     *ListenerTLS
	// RedirectTo, the port of an https listener, makes a clear-text listener
	// answer everything with 308 to there. 0 = it serves the APIs.
	RedirectTo uint16
}

// ListenerTLS is what an https listener shows and asks for. Envoy opens its
// port when it has every certificate.
type ListenerTLS struct {
	// Certificates are names in Options.Certificates; at least one. A client gets
	// the one that is issued to the name it calls (SNI), else the first.
	Certificates []string
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13; 0 = 1.2.
	MinVersion uint16
	// ClientCA names the certificate whose CAPEM verifies the clients' own
	// certificates; "" = they are not asked for one.
	ClientCA string
	// ClientOptional lets clients without a certificate in.
	ClientOptional bool
}

// Certificate is a key pair, an authority, or both.
type Certificate struct {
	CertPEM, KeyPEM []byte // a chain, leaf first, and its private key
	CAPEM           []byte // certificates of authorities
	// Organizations may name the certificate in the back ends of their APIs; "*"
	// is every organization. None: it is for listeners and the key manager.
	Organizations []keymanager.OrganizationID
}

// Name returns the listener's name: by its port, since another name would
// drain every connection.
func (l Listener) Name() string { return fmt.Sprintf("tcp-%d", l.Port) }

func (o *Options) fill() error {
	switch {
	case o.Catalog == nil:
		return fmt.Errorf("xds: no catalog")
	case o.Now == nil:
		return fmt.Errorf("xds: no clock")
	case len(o.Groups) == 0:
		return fmt.Errorf("xds: no gateway group")
	case o.ID == "":
		return fmt.Errorf("xds: no instance id")
	}
	if o.WarmTimeout == 0 {
		o.WarmTimeout = 5 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 2 * time.Second
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = time.Minute
	}
	if o.StreamRate == 0 {
		o.StreamRate = 2
	}
	if o.StreamBurst == 0 {
		o.StreamBurst = 20
	}
	if o.StaleAfter == 0 {
		o.StaleAfter = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	for name := range o.Certificates {
		if !validName(name) {
			return fmt.Errorf("xds: certificate %q: want letters, digits, \"-\" and \"_\"", name)
		}
	}
	seen := map[string]bool{}
	for i := range o.Groups {
		if err := o.Groups[i].check(); err != nil {
			return fmt.Errorf("xds: group %q: %w", o.Groups[i].Name, err)
		}
		for _, name := range o.Groups[i].certificates() {
			if _, ok := o.Certificates[name]; !ok {
				return fmt.Errorf("xds: group %q: no certificate %q", o.Groups[i].Name, name)
			}
		}
		if err := o.identity(&o.Groups[i]); err != nil {
			return fmt.Errorf("xds: group %q: %w", o.Groups[i].Name, err)
		}
		if seen[o.Groups[i].Name] {
			return fmt.Errorf("xds: group %q is there twice", o.Groups[i].Name)
		}
		seen[o.Groups[i].Name] = true
	}
	return nil
}

// identity checks what the Envoys of a group show to the key manager, whose key
// all of them get: with that of another group, or of another role, they could
// pass for it.
func (o *Options) identity(g *Group) error {
	name := g.KeyManager.ClientCertificate
	if name == "" || o.TrustDomain == "" {
		return nil
	}
	chain, err := readCertificates(o.Certificates[name].CertPEM)
	if err != nil {
		return nil //nolint:nilerr // it is not used, and reported
	}
	peer, err := keymanager.ParsePeer(o.TrustDomain, chain[0])
	if err != nil {
		return fmt.Errorf("certificate %q: %w", name, err)
	}
	if peer.Role != keymanager.RoleGateway || peer.Group != g.Name {
		return fmt.Errorf("certificate %q is that of %s, want one of a gateway of this group", name, peer)
	}
	return nil
}

func (g *Group) check() error {
	if g.Name == "" || strings.Contains(g.Name, "/") {
		return fmt.Errorf("want a name without a slash")
	}
	if len(g.Hosts) == 0 {
		return fmt.Errorf("no host")
	}
	hosts := map[string]bool{}
	for _, h := range g.Hosts {
		if !validHost(h) || hosts[h] {
			return fmt.Errorf("host %q: want lower case, no port, each once", h)
		}
		hosts[h] = true
	}
	if len(g.Listeners) == 0 {
		return fmt.Errorf("no listener")
	}
	names := map[string]bool{}
	for _, l := range g.Listeners {
		if err := l.check(); err != nil {
			return err
		}
		if names[l.Name()] {
			return fmt.Errorf("two listeners on port %d", l.Port)
		}
		names[l.Name()] = true
	}
	return nil
}

// certificates are the names of the certificates that the group itself uses.
func (g *Group) certificates() (out []string) {
	add := func(name string) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, l := range g.Listeners {
		if l.TLS == nil {
			continue
		}
		for _, name := range l.TLS.Certificates {
			add(name)
		}
		add(l.TLS.ClientCA)
	}
	add(g.KeyManager.CA)
	add(g.KeyManager.ClientCertificate)
	return out
}

// check looks for what Envoy would refuse, or do otherwise than was meant.
func (l Listener) check() error {
	if _, err := netip.ParseAddr(l.Address); err != nil {
		return fmt.Errorf("listener address %q: want an IP address", l.Address)
	}
	switch {
	case l.TLS == nil:
		return nil
	case l.RedirectTo != 0:
		return fmt.Errorf("listener %s: a redirect to https from https", l.Name())
	case len(l.TLS.Certificates) == 0:
		return fmt.Errorf("listener %s: no certificate", l.Name())
	case l.TLS.MinVersion != 0 && l.TLS.MinVersion != tls.VersionTLS12 && l.TLS.MinVersion != tls.VersionTLS13:
		return fmt.Errorf("listener %s: minimum version %#x: want TLS 1.2 or 1.3", l.Name(), l.TLS.MinVersion)
	case l.TLS.ClientCA == "" && l.TLS.ClientOptional:
		return fmt.Errorf("listener %s: client certificates are optional, but nothing verifies them", l.Name())
	}
	for i, name := range l.TLS.Certificates {
		if slices.Contains(l.TLS.Certificates[:i], name) {
			return fmt.Errorf("listener %s: certificate %q is there twice", l.Name(), name)
		}
	}
	return nil
}
