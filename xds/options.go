package xds

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
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
	// WarmTimeout is how long the routes of an API wait until Envoy has resolved
	// the names of its back ends (the acknowledgement of a cluster is
	// withheld while it warms). Default 5 s.
	WarmTimeout time.Duration
	// Grace is how long a cluster outlives its routes: a request that Envoy has
	// routed there may still wait for authz, or for a retry. Default 2 s;
	// negative = none.
	Grace time.Duration
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
	// KeyManager is the back end of the token endpoint and its neighbours:
	// http://host:port, https://host:port or unix:/path. "" = no such routes.
	KeyManager string
	// CAFile holds the certificates that https back ends are verified against,
	// in PEM, as Envoy sees the file. Required for an https back end.
	CAFile string
}

// Listener is a clear-text address of Envoy.
type Listener struct {
	Address string // an IP address
	Port    uint16 // 0 = chosen by Envoy
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
	if o.StaleAfter == 0 {
		o.StaleAfter = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	seen := map[string]bool{}
	for i := range o.Groups {
		if err := o.Groups[i].check(); err != nil {
			return fmt.Errorf("xds: group %q: %w", o.Groups[i].Name, err)
		}
		if seen[o.Groups[i].Name] {
			return fmt.Errorf("xds: group %q is there twice", o.Groups[i].Name)
		}
		seen[o.Groups[i].Name] = true
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
		if _, err := netip.ParseAddr(l.Address); err != nil {
			return fmt.Errorf("listener address %q: want an IP address", l.Address)
		}
		if names[l.Name()] {
			return fmt.Errorf("two listeners on port %d", l.Port)
		}
		names[l.Name()] = true
	}
	return nil
}
