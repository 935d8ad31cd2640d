// Package bootstrap renders the configuration that Envoy starts with. All that
// changes while it runs comes by xDS.
package bootstrap

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"text/template"
	"time"

	"tollgate/envoy"
)

// Options describe one gateway. Addresses are a path of a Unix socket (starting
// with "/", at most 107 bytes) or "ip:port".
type Options struct {
	NodeID string // of this Envoy, unique in the group
	Group  string // gateway group: selects the configuration
	// XDS is where the control plane listens. The stream is not encrypted, so
	// it must be a Unix socket or a loopback address.
	XDS string
	// Authz is the Unix socket of authz.
	Authz string
	// Admin is where Envoy's admin interface listens: a Unix socket or a
	// loopback address; port 0 takes a free one. "" = 127.0.0.1:0.
	Admin string
	// HeapLimit in bytes is where Envoy begins to shed load; about 75 % of the
	// container's memory. An API needs 30 KB. 0 = 1.5 GiB.
	HeapLimit uint64
	// ConnectionLimit bounds the client connections; 0 = 50,000.
	ConnectionLimit uint64
	// BackoffBase and BackoffMax bound the wait of Envoy before it connects to
	// XDS again; 0 = 0.5 s and 5 s. Beside a control plane that restarts with
	// its developer, less is better.
	BackoffBase, BackoffMax time.Duration
	// DNS is the name server ("ip:port") that Envoy asks; "" = the system's.
	DNS string
	// APIStats keeps the statistics of API clusters, which only few APIs can
	// afford.
	APIStats bool
	// OpenAdmin lets the admin interface change Envoy (log levels, runtime). For
	// tests: with it a local process can switch a gateway off.
	OpenAdmin bool
}

const (
	defaultHeap        = 3 << 29
	defaultConnections = 50000
	maxSocketPath      = 107 // sun_path holds 108 bytes with the final NUL
)

//go:embed bootstrap.json.tmpl
var text string

// Render returns the bootstrap as JSON (envoy.config.bootstrap.v3.Bootstrap).
// The same options give the same bytes. The error names each option that is
// wrong.
func Render(opts Options) ([]byte, error) {
	v, err := opts.values()
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New("bootstrap").Funcs(template.FuncMap{"json": quote, "seconds": seconds}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("bootstrap template: %w", err)
	}
	var raw, out bytes.Buffer
	if err := tmpl.Execute(&raw, v); err != nil {
		return nil, fmt.Errorf("bootstrap template: %w", err)
	}
	if err := json.Indent(&out, bytes.TrimSpace(raw.Bytes()), "", "  "); err != nil {
		return nil, fmt.Errorf("bootstrap template: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// values are what the template refers to, checked.
type values struct {
	Options
	XDSCluster, AuthzCluster, APIClusterStats string
	XDSPath, XDSHost                          string
	AuthzPath                                 string
	AdminPath, AdminHost                      string
	DNSHost                                   string
	XDSPort, AdminPort, DNSPort               uint16
}

func (o Options) values() (values, error) {
	if o.Admin == "" {
		o.Admin = "127.0.0.1:0"
	}
	if o.HeapLimit == 0 {
		o.HeapLimit = defaultHeap
	}
	if o.ConnectionLimit == 0 {
		o.ConnectionLimit = defaultConnections
	}
	if o.BackoffBase == 0 {
		o.BackoffBase = 500 * time.Millisecond
	}
	if o.BackoffMax == 0 {
		o.BackoffMax = 5 * time.Second
	}
	v := values{
		Options: o, XDSCluster: envoy.ClusterXDS, AuthzCluster: envoy.ClusterAuthz,
		APIClusterStats: "cluster." + envoy.ClusterAPIPrefix,
	}
	var errs []error
	wrong := func(option, why string) { errs = append(errs, fmt.Errorf("%s %s", option, why)) }
	if o.NodeID == "" {
		wrong("NodeID", "is missing")
	}
	if o.Group == "" {
		wrong("Group", "is missing")
	}
	if o.BackoffBase < time.Millisecond || o.BackoffMax < o.BackoffBase {
		wrong("BackoffBase, BackoffMax", "must be at least 1 ms, and the second not below the first")
	}
	local := func(option, address string, port0 bool) (path, host string, port uint16) {
		if strings.HasPrefix(address, "/") {
			if len(address) > maxSocketPath {
				wrong(option, fmt.Sprintf("is longer than the %d bytes of a Unix socket's path: %s", maxSocketPath, address))
			}
			return address, "", 0
		}
		ap, err := netip.ParseAddrPort(address)
		switch {
		case err != nil:
			wrong(option, fmt.Sprintf("is neither an absolute path nor ip:port: %q", address))
		case !ap.Addr().IsLoopback():
			wrong(option, fmt.Sprintf("is not a loopback address, and the connection is not encrypted: %s", address))
		case ap.Port() == 0 && !port0:
			wrong(option, "has port 0")
		}
		return "", ap.Addr().String(), ap.Port()
	}
	v.XDSPath, v.XDSHost, v.XDSPort = local("XDS", o.XDS, false)
	v.AdminPath, v.AdminHost, v.AdminPort = local("Admin", o.Admin, true)
	if !strings.HasPrefix(o.Authz, "/") {
		wrong("Authz", fmt.Sprintf("is not the absolute path of a Unix socket: %q", o.Authz))
	} else {
		v.AuthzPath, _, _ = local("Authz", o.Authz, false)
	}
	if o.DNS != "" {
		ap, err := netip.ParseAddrPort(o.DNS)
		if err != nil {
			wrong("DNS", fmt.Sprintf("is not ip:port: %q", o.DNS))
		}
		v.DNSHost, v.DNSPort = ap.Addr().String(), ap.Port()
	}
	return v, errors.Join(errs...)
}

// quote writes a value as JSON.
func quote(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// seconds writes a duration as protobuf's JSON does: "0.5s".
func seconds(d time.Duration) string {
	return strconv.Quote(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s")
}
