// Package bootstrap renders the configuration that Envoy starts with. All that
// changes while it runs comes by xDS.
//
// Envoy talks to three neighbours before it has heard of any API: the control
// plane (xds), the decision point (authz) and, if wanted, the receiver of usage
// records. Each is either on this machine, in clear text, or anywhere, over TLS
// 1.3 with a certificate on both sides.
package bootstrap

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"strconv"
	"text/template"
	"time"

	"tollgate/envoy"
)

// Options describe one gateway. A local address is a path of a Unix socket
// (starting with "/", at most 107 bytes) or "ip:port".
type Options struct {
	NodeID string // of this Envoy, unique in the group; the last part of its certificate's identity
	Group  string // gateway group: selects the configuration

	// XDS is where the control plane listens on this machine. The stream is not
	// encrypted, so it must be a Unix socket or a loopback address. Give it or
	// XDSServers.
	XDS        string
	XDSServers Servers
	// Static has what xds would push, for an Envoy without one: XDS and
	// XDSServers are then left out. nil = everything comes from xds.
	Static *Static
	// Authz is the Unix socket of authz beside this Envoy. Give it or
	// AuthzServers, a fleet that many Envoys share.
	Authz        string
	AuthzServers Servers
	// AccessLog is who takes usage records: a Unix socket or a loopback address.
	// Neither it nor AccessLogServers: Envoy sends none.
	AccessLog        string
	AccessLogServers Servers
	// TLS is this Envoy's part in connections to Servers.
	TLS TLS

	// Admin is where Envoy's admin interface listens: a Unix socket or a
	// loopback address; port 0 takes a free one. "" = 127.0.0.1:0.
	Admin string
	// Health is where a load balancer asks ("ip:port", clear text): GET /healthz
	// is 200 from the moment Envoy serves until POST /healthcheck/fail, also
	// when Envoy accepts no further client; with AuthzServers only while one of
	// them is healthy. Any other path is 404. It says nothing about an authz on
	// this machine. "" = no such port.
	Health string
	// HeapLimit in bytes is where Envoy begins to shed load; about 75 % of the
	// container's memory. An API needs 28 to 33 KB (APIs). 0 = 1.5 GiB.
	HeapLimit uint64
	// ConnectionLimit bounds the client connections; 0 = 50,000.
	ConnectionLimit uint64
	// BackoffBase and BackoffMax bound the wait of Envoy before it connects to
	// XDS again; 0 = 0.5 s and 5 s. Beside a control plane that restarts with
	// its developer, less is better.
	BackoffBase, BackoffMax time.Duration
	// AuthzPing is how often Envoy asks a busy connection to authz for a sign of
	// life, and AuthzIdlePing an idle one; 0 = 15 s and 30 s. A hung authz is
	// left after AuthzPing and 3 s.
	AuthzPing, AuthzIdlePing time.Duration
	// DNS is the name server ("ip:port") that Envoy asks; "" = the system's.
	DNS string
	// DNSTimeout (whole seconds) and DNSTries bound the question for one name,
	// of pushed clusters too; 0 = 1 s and 2. Each change of an API waits for the
	// names of every back end that is being resolved.
	DNSTimeout time.Duration
	DNSTries   uint32
	// APIStats keeps the statistics of API clusters, which only few APIs can
	// afford.
	APIStats bool
	// OpenAdmin lets the admin interface change Envoy (log levels, runtime). For
	// tests: with it a local process can switch a gateway off.
	OpenAdmin bool
}

// Static are resources that Envoy is started with, each in JSON.
type Static struct{ Listeners, Clusters, Secrets []json.RawMessage }

const (
	defaultHeap        = 3 << 29
	defaultConnections = 50000
	maxSocketPath      = 107 // sun_path holds 108 bytes with the final NUL
)

// memoryPerAPI is what Envoy needs for one API: its cluster with statistics and
// its table, for one worker.
const memoryPerAPI = 33 << 10

// APIs returns how many APIs fit below the mark where an Envoy with this heap
// limit begins to shed load (85 %).
func APIs(heapLimit uint64) uint64 {
	if heapLimit == 0 {
		heapLimit = defaultHeap
	}
	return heapLimit / 100 * 85 / memoryPerAPI
}

//go:embed *.json.tmpl
var templates embed.FS

// Render returns the bootstrap as JSON (envoy.config.bootstrap.v3.Bootstrap).
// The same options give the same bytes. The error joins an *OptionError for
// each option that is wrong.
func Render(opts Options) ([]byte, error) {
	v, err := opts.values()
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New("bootstrap.json.tmpl").
		Funcs(template.FuncMap{"json": quote, "seconds": seconds}).ParseFS(templates, "*.tmpl")
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
	Clusters           []cluster
	APIClusterStats    string
	XDSCluster         string
	Listeners, Secrets []json.RawMessage // of Static, and
	More               []json.RawMessage // its clusters
	AdminPath          string
	AdminHost, DNSHost string
	AdminPort, DNSPort uint16
	DNSSeconds         int64
	HealthHost         string
	HealthPort         uint16
	AuthzFleet         bool
}

func (o Options) values() (values, error) {
	o.fill()
	c := &checker{}
	v := values{Options: o, XDSCluster: envoy.ClusterXDS, APIClusterStats: "cluster." + envoy.ClusterAPIPrefix}
	c.need("NodeID", o.NodeID)
	c.need("Group", o.Group)
	if o.BackoffBase < time.Millisecond || o.BackoffMax < o.BackoffBase {
		c.wrong("BackoffBase, BackoffMax", "must be at least 1 ms, and the second not below the first")
	}
	if o.AuthzPing < 10*time.Millisecond || o.AuthzIdlePing < o.AuthzPing {
		c.wrong("AuthzPing, AuthzIdlePing", "must be at least 10 ms, and the second not below the first")
	}
	v.Clusters = c.clusters(&o)
	if o.Static != nil {
		v.Listeners, v.Secrets, v.More = o.Static.Listeners, o.Static.Secrets, o.Static.Clusters
	}
	admin, _ := c.local("Admin", o.Admin, true)
	v.AdminPath, v.AdminHost, v.AdminPort = admin.Path, admin.Host, admin.Port
	v.DNSHost, v.DNSPort = c.ipPort("DNS", o.DNS, false)
	v.HealthHost, v.HealthPort = c.ipPort("Health", o.Health, true)
	v.AuthzFleet = !o.AuthzServers.none()
	if v.DNSSeconds = int64(o.DNSTimeout / time.Second); o.DNSTimeout%time.Second != 0 || v.DNSSeconds < 1 || v.DNSSeconds > 60 {
		c.wrong("DNSTimeout", fmt.Sprintf("is not a number of whole seconds from 1 to 60: %s", o.DNSTimeout))
	}
	if o.DNSTries > 10 {
		c.wrong("DNSTries", "is more than 10")
	}
	return v, c.err()
}

func (o *Options) fill() {
	o.Admin = cmp.Or(o.Admin, "127.0.0.1:0")
	o.HeapLimit = cmp.Or(o.HeapLimit, defaultHeap)
	o.ConnectionLimit = cmp.Or(o.ConnectionLimit, defaultConnections)
	o.BackoffBase = cmp.Or(o.BackoffBase, 500*time.Millisecond)
	o.BackoffMax = cmp.Or(o.BackoffMax, 5*time.Second)
	o.AuthzPing = cmp.Or(o.AuthzPing, 15*time.Second)
	o.AuthzIdlePing = cmp.Or(o.AuthzIdlePing, max(o.AuthzPing, 30*time.Second))
	o.DNSTimeout = cmp.Or(o.DNSTimeout, time.Second)
	o.DNSTries = cmp.Or(o.DNSTries, 2)
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
