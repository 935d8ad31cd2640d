package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// plan is what xds keeps of one API: what shapes its routes, and the name of
// its cluster. Resources, scopes and tiers are authz's business.
type plan struct {
	id        keymanager.APIID
	rev       uint64 // log position of the API's last change
	segment   string // first path segment: the scope it lives in
	base      string // path below which it answers
	target    string // what replaces base at the back end; "" is its root
	hosts     []string
	grpc      bool
	websocket bool
	timeout   time.Duration // 0 = a stream, for which are:
	length    time.Duration
	idle      time.Duration
	cors      *keymanager.CORS
	retry     *keymanager.Retry
	cluster   string
	backend   keymanager.Backend // shapes the cluster; retry is in the routes
	trust     trusts
	resolved  bool // the cluster has nothing to wait for, no name and no secret: its routes need not wait
}

// endpoint is one back end.
type endpoint struct {
	env  string
	host string // name or IP address
	port uint16
	tls  bool
	pipe string // a Unix socket instead of host and port
	// trust is how it is verified, of one with https.
	trust trust
}

// newPlan reads an API. The key manager has checked its fields where they
// entered; here is checked what Envoy would choke on, or read differently from
// us, so that a mistake over there costs one API and not its neighbours.
func newPlan(g *Group, api *keymanager.API) (*plan, []endpoint, error) {
	p := &plan{
		id: api.ID, rev: api.Position, segment: api.Segment(), base: api.BasePath(),
		hosts: api.Hosts, grpc: api.Protocol == keymanager.GRPC, timeout: api.Timeout, cors: api.CORS,
		websocket: api.Protocol == keymanager.WebSocket, length: api.MaxDuration, idle: api.IdleTimeout,
		retry: api.Backend.Retry, backend: api.Backend,
	}
	if !validID(string(p.id)) {
		return nil, nil, fmt.Errorf("id %q: want letters, digits and \"-\"", p.id)
	}
	for _, path := range []string{api.Context, p.base} {
		if err := checkPath(path); err != nil {
			return nil, nil, fmt.Errorf("base path %q: %w", p.base, err)
		}
	}
	if reservedSegment(p.segment) {
		return nil, nil, fmt.Errorf("base path %q: /%s belongs to the gateway", p.base, p.segment)
	}
	if len(p.hosts) == 0 {
		p.hosts = g.Hosts
	}
	for i, h := range p.hosts {
		if !validHost(h) || slices.Contains(p.hosts[:i], h) {
			return nil, nil, fmt.Errorf("host %q: want lower case, no port, each once", h)
		}
	}
	if p.timeout < 0 || p.length < 0 || p.idle < 0 {
		return nil, nil, fmt.Errorf("timeout %v, duration %v or silence %v is negative", p.timeout, p.length, p.idle)
	}
	if p.length == 0 {
		p.length = keymanager.DefaultMaxDuration
	}
	if p.idle == 0 {
		p.idle = keymanager.DefaultIdleTimeout
	}
	if err := checkBackend(&p.backend); err != nil {
		return nil, nil, err
	}
	if err := checkCORS(p.cors); err != nil {
		return nil, nil, err
	}
	ends, base, err := endpoints(api)
	if err != nil {
		return nil, nil, err
	}
	p.target = base
	if p.grpc {
		p.target = base + p.base // the service name is part of the call
	}
	p.trust = verify(g, api, ends)
	// A cluster with a health check is warm after the first answers.
	p.resolved = allResolved(ends) && len(p.trust.certificates()) == 0 && p.backend.HealthCheck == nil
	p.cluster = clusterName(p.id, api.Protocol, p.trust, ends, backendID(&p.backend))
	return p, ends, nil
}

// same reports whether two plans make the same routes and name the same cluster.
func (p *plan) same(o *plan) bool {
	if p == nil || o == nil {
		return p == o
	}
	return reflect.DeepEqual(p, o)
}

// endpoints returns the back ends of both environments and the base path that
// they share: one route has one rewrite.
func endpoints(api *keymanager.API) (out []endpoint, base string, err error) {
	for _, env := range []struct {
		name string
		urls []string
	}{{envoy.EnvProduction, api.Production}, {envoy.EnvSandbox, api.Sandbox}} {
		for _, raw := range env.urls {
			e, path, err := parseEndpoint(raw)
			if err != nil {
				return nil, "", fmt.Errorf("%s endpoint: %w", env.name, err)
			}
			if len(out) > 0 && path != base {
				return nil, "", fmt.Errorf("%s endpoint: base path %q, the others have %q", env.name, path, base)
			}
			e.env, base = env.name, path
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return nil, "", fmt.Errorf("no endpoint")
	}
	return out, base, nil
}

// parseEndpoint reads http[s]://host[:port][/base]. Errors do not repeat the
// URL: it may carry a password.
func parseEndpoint(raw string) (endpoint, string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, "", fmt.Errorf("not a URL")
	}
	e := endpoint{host: strings.ToLower(u.Hostname()), port: 80}
	switch u.Scheme {
	case "http":
	case "https":
		e.tls, e.port = true, 443
	default:
		return endpoint{}, "", fmt.Errorf("scheme %q: want http or https", u.Scheme)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return endpoint{}, "", fmt.Errorf("a URL with user, query or fragment")
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return endpoint{}, "", fmt.Errorf("port %q", port)
		}
		e.port = uint16(n)
	}
	if _, err := netip.ParseAddr(e.host); err != nil && (!validHost(e.host) || strings.HasPrefix(e.host, "*")) {
		return endpoint{}, "", fmt.Errorf("host %q", e.host)
	}
	base := strings.TrimRight(u.EscapedPath(), "/")
	if strings.ContainsAny(base, "?#\\") || strings.Contains(base, "//") {
		return endpoint{}, "", fmt.Errorf("base path %q", base)
	}
	return e, base, nil
}

func (e endpoint) ip() bool {
	_, err := netip.ParseAddr(e.host)
	return err == nil
}

// authority is the Host header for the endpoint (RFC 9110 section 7.2): with
// the port unless it is the scheme's own.
func (e endpoint) authority() string {
	if e.tls && e.port == 443 || !e.tls && e.port == 80 {
		if strings.Contains(e.host, ":") {
			return "[" + e.host + "]"
		}
		return e.host
	}
	return net.JoinHostPort(e.host, strconv.Itoa(int(e.port)))
}

func allResolved(ends []endpoint) bool {
	for _, e := range ends {
		if e.pipe == "" && !e.ip() {
			return false
		}
	}
	return true
}

// clusterName names a cluster by what it is: other back ends, another protocol,
// other certificates or another policy make another cluster, which is warm
// before the routes change over to it.
func clusterName(id keymanager.APIID, protocol keymanager.Protocol, verified trusts, ends []endpoint, backend string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", protocol)
	for _, e := range ends {
		fmt.Fprintf(h, "%s %s %d %t\n", e.env, e.host, e.port, e.tls)
		if e.tls {
			fmt.Fprintf(h, "%s\n", e.trust.file)
		}
	}
	for _, tr := range verified {
		if tr.env != "" {
			fmt.Fprintf(h, "%s ", tr.env)
		}
		if tr.env+tr.ca+tr.client+tr.name != "" {
			fmt.Fprintf(h, "%q %q %q\n", tr.ca, tr.client, tr.name)
		}
	}
	fmt.Fprint(h, backend)
	return envoy.ClusterAPIPrefix + string(id) + "/" + hex.EncodeToString(h.Sum(nil)[:4])
}

// checkPath wants a path as Envoy's normalisation leaves it, so that what
// matches is what was meant.
func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("want it to start with \"/\"")
	}
	for _, segment := range strings.Split(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("segment %q", segment)
		}
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`?#%;\,"<>^{}|`+"`", c) >= 0 {
			return fmt.Errorf("byte %q", c)
		}
	}
	return nil
}

// checkCORS keeps out what would break a header, and "*" with credentials,
// which would let every site act for the user.
func checkCORS(c *keymanager.CORS) error {
	if c == nil {
		return nil
	}
	for _, list := range [][]string{c.AllowOrigins, c.AllowMethods, c.AllowHeaders, c.ExposeHeaders} {
		for _, s := range list {
			if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				return fmt.Errorf("cors: %q", s)
			}
		}
	}
	if c.AllowCredentials && slices.Contains(c.AllowOrigins, "*") {
		return fmt.Errorf("cors: every origin with credentials")
	}
	return nil
}

func validID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return id != ""
}

// validHost accepts what a virtual host's domain may be: a lower-case name or
// address, "*.suffix" or "*".
func validHost(host string) bool {
	if host == "*" {
		return true
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return closed && err == nil && addr.Is6()
	}
	host = strings.TrimPrefix(host, "*.")
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return len(host) <= 253
}
