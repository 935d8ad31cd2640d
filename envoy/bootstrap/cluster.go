package bootstrap

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	"tollgate/envoy"
)

// Servers are replicas of one neighbour that Envoy reaches over mTLS. The zero
// value is none.
type Servers struct {
	Addresses []string // HOST:PORT; a name is resolved, and may have several addresses
	// Name is the DNS name that the servers' certificates must carry, and goes
	// out as SNI. "" = the host of Addresses, if they all have one host.
	Name string
}

func (s Servers) none() bool { return len(s.Addresses) == 0 && s.Name == "" }

// endpoint is an address of a cluster.
type endpoint struct {
	Path string // a Unix socket, or
	Host string
	Port uint16
}

// cluster is what the template makes a cluster of.
type cluster struct {
	Name           string
	Authz          bool // not xds or the receiver of usage records
	Endpoints      []endpoint
	Resolve        bool // a host is a name
	Connect        time.Duration
	Ping, IdlePing time.Duration
	TLS            bool
	SNI            string
	SAN            sanMatcher
	Secrets        secrets
}

// sanMatcher is envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.
type sanMatcher struct {
	SanType string            `json:"san_type"`
	Matcher map[string]string `json:"matcher"`
}

// clusters are Envoy's neighbours.
func (c *checker) clusters(o *Options) []cluster {
	xds := cluster{Name: envoy.ClusterXDS, Connect: 2 * time.Second, Ping: 30 * time.Second}
	authz := cluster{Name: envoy.ClusterAuthz, Authz: true, Connect: 250 * time.Millisecond, Ping: o.AuthzPing, IdlePing: o.AuthzIdlePing}
	if o.Static == nil {
		c.neighbour(&xds, "XDS", o.XDS, o.XDSServers, o.TLS, "/xds/")
	} else if o.XDS != "" || !o.XDSServers.none() {
		c.wrong("Static, XDS, XDSServers", "exclude each other")
	}
	c.neighbour(&authz, "Authz", o.Authz, o.AuthzServers, o.TLS, "/authz/"+o.Group+"/")
	if authz.TLS {
		authz.Connect = 500 * time.Millisecond
	} else if len(authz.Endpoints) == 1 && authz.Endpoints[0].Path == "" && o.Authz != "" {
		c.wrong("Authz", fmt.Sprintf("is not the absolute path of a Unix socket: %q", o.Authz))
	}
	out := []cluster{xds, authz}
	if o.Static != nil {
		out = out[1:]
	}
	if o.AccessLog != "" || !o.AccessLogServers.none() {
		log := cluster{Name: envoy.ClusterAccessLog, Connect: 2 * time.Second, Ping: 30 * time.Second}
		c.neighbour(&log, "AccessLog", o.AccessLog, o.AccessLogServers, o.TLS, "/keymanager/")
		out = append(out, log)
	}
	if o.TLS != (TLS{}) && !slices.ContainsFunc(out, func(cl cluster) bool { return cl.TLS }) {
		c.wrong("TLS", "has files, but no connection uses them: every neighbour is on this machine")
	}
	return out
}

// neighbour fills cl from the options NAME and NAMEServers. identity is how
// the path of the server's SPIFFE ID begins.
func (c *checker) neighbour(cl *cluster, option, local string, servers Servers, tls TLS, identity string) {
	switch {
	case local != "" && !servers.none():
		c.wrong(option+", "+option+"Servers", "exclude each other: on this machine, or over mTLS")
	case !servers.none():
		cl.TLS = true
		c.servers(cl, option+"Servers", servers, tls, identity)
	case local == "":
		c.wrong(option, "is missing")
	default:
		if e, ok := c.local(option, local, false); ok {
			cl.Endpoints = []endpoint{e}
		}
	}
}

func (c *checker) servers(cl *cluster, option string, s Servers, tls TLS, identity string) {
	if len(s.Addresses) == 0 {
		c.wrong(option+".Addresses", "is missing")
	}
	hosts := map[string]bool{}
	for _, address := range s.Addresses {
		host, port, err := net.SplitHostPort(address)
		n, perr := strconv.ParseUint(port, 10, 16)
		_, notIP := netip.ParseAddr(host)
		if err != nil || perr != nil || n == 0 || notIP != nil && !dnsName.MatchString(host) {
			c.wrong(option+".Addresses", fmt.Sprintf("%q is not HOST:PORT with a port from 1 to 65535", address))
			continue
		}
		cl.Resolve = cl.Resolve || notIP != nil
		cl.Endpoints = append(cl.Endpoints, endpoint{Host: host, Port: uint16(n)})
		hosts[host] = true
	}
	name := s.Name
	if name == "" && len(hosts) == 1 {
		name = cl.Endpoints[0].Host
	}
	_, notIP := netip.ParseAddr(name)
	if notIP != nil {
		if name != "" && !dnsName.MatchString(name) {
			c.wrong(option+".Name", fmt.Sprintf("is not a DNS name: %q", name))
		}
		cl.SNI = name // an address must not be one (RFC 6066 section 3)
	}
	switch {
	case tls.TrustDomain != "":
		// Envoy's list of names is satisfied by one of them: the role says more
		// than the name, which a certificate of another role could carry.
		cl.SAN = sanMatcher{"URI", map[string]string{"prefix": "spiffe://" + tls.TrustDomain + identity}}
	case name == "":
		if len(hosts) > 1 {
			c.wrong(option+".Name", "is missing: the addresses have several hosts")
		}
	case notIP == nil:
		cl.SAN = sanMatcher{"IP_ADDRESS", map[string]string{"exact": name}}
	default:
		cl.SAN = sanMatcher{"DNS", map[string]string{"exact": name}}
	}
	cl.Secrets = c.secrets(tls)
}

var dnsName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,251}[a-zA-Z0-9])?$`)
