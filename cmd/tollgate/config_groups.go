package main

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// GroupConfig is one gateway group: the Envoys of a group get the same
// listeners and APIs.
type GroupConfig struct {
	Name        string           `yaml:"name"`
	Hosts       []string         `yaml:"hosts"` // of an API that names none
	Listeners   []ListenerConfig `yaml:"listeners"`
	KeyManager  UpstreamConfig   `yaml:"keymanager"`
	TrustedHops int              `yaml:"trusted_hops"`
	CAFile      string           `yaml:"ca_file"`    // as in GatewayConfig
	AccessLog   string           `yaml:"access_log"` // as in GatewayConfig
	Usage       bool             `yaml:"usage"`      // as in GatewayConfig
}

// ListenerConfig is one address of the Envoys of a group.
type ListenerConfig struct {
	Address        string   `yaml:"address"`
	Certificates   []string `yaml:"certificates"` // names in xds.certificates; none = clear text
	MinVersion     string   `yaml:"min_version"`  // of TLS: 1.2, 1.3; "" = 1.2
	ClientCA       string   `yaml:"client_ca"`    // name in xds.certificates; "" = clients show no certificate
	ClientOptional bool     `yaml:"client_optional"`
	RedirectTo     int      `yaml:"redirect_to"` // port of an https listener
}

// UpstreamConfig is where Envoys reach the key managers' token endpoint.
type UpstreamConfig struct {
	Addresses  []string `yaml:"addresses"` // http://HOST:PORT, https://HOST:PORT or unix:/PATH
	CA         string   `yaml:"ca"`        // name in xds.certificates; "" = ca_file of the group
	ServerName string   `yaml:"server_name"`
	// ClientCertificate is a name in xds.certificates: what Envoys show, that of a
	// gateway. "" = none; then all clients of an Envoy have its address to the key
	// manager, and one who guesses a secret shuts the others of that client out.
	ClientCertificate string `yaml:"client_certificate"`
}

// CertificateConfig is a key pair, authorities, or both, for Envoys.
type CertificateConfig struct {
	CertFile      string   `yaml:"cert_file"`
	KeyFile       string   `yaml:"key_file"`
	CAFile        string   `yaml:"ca_file"`
	Organizations []string `yaml:"organizations"` // whose APIs may name it for back ends; "*" = all
}

var certificateName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// xds checks the gateway groups and their certificates.
func (c *checker) xds(cfg *Config) {
	x := &cfg.XDS
	c.span("xds.authz_timeout", x.AuthzTimeout, 100*time.Millisecond, 10*time.Second)
	c.listener("xds.address", x.Address, cfg.TLS.enabled(), tlsHint)
	for _, name := range slices.Sorted(maps.Keys(x.Certificates)) {
		c.certificate("xds.certificates."+name, name, x.Certificates[name])
	}
	names := map[string]bool{}
	for i := range x.Groups {
		g, key := &x.Groups[i], fmt.Sprintf("xds.groups[%d]", i)
		c.group(key+".name", g.Name)
		if names[g.Name] {
			c.fail(key+".name", "%q is there twice", g.Name)
		}
		names[g.Name] = true
		c.hosts(key+".hosts", g.Hosts)
		c.between(key+".trusted_hops", g.TrustedHops, 0, 10)
		c.absolute(key+".ca_file", g.CAFile)
		c.absolute(key+".access_log", g.AccessLog)
		c.upstream(key+".keymanager", &g.KeyManager, x)
		if len(g.Listeners) == 0 {
			c.fail(key+".listeners", "must name at least one listener")
		}
		for j := range g.Listeners {
			c.gatewayListener(fmt.Sprintf("%s.listeners[%d]", key, j), &g.Listeners[j], g.Listeners, x)
		}
	}
	if len(x.Groups) == 0 {
		return
	}
	for _, key := range []string{"address", "hosts", "trusted_hops", "ca_file", "access_log", "usage", "certificates"} {
		if c.at.fromFile("gateway." + key) {
			c.fail("gateway."+key, "is without effect: xds.groups is set, and says it for each group")
		}
	}
}

func (c *checker) certificate(key, name string, cert CertificateConfig) {
	if !certificateName.MatchString(name) {
		c.fail(key, "the name is not 1 to 100 of letters, digits, - and _")
	}
	c.pair(key+".cert_file", cert.CertFile, key+".key_file", cert.KeyFile)
	if cert.CertFile == "" && cert.CAFile == "" {
		c.fail(key, "names no file: cert_file and key_file, ca_file, or all of them")
	}
}

// named accepts the name of a certificate that has what is needed: a key pair,
// or authorities.
func (c *checker) named(key, name string, x *XDSConfig, pair bool) {
	cert, ok := x.Certificates[name]
	switch {
	case !ok:
		c.fail(key, "%q is not in xds.certificates", name)
	case pair && cert.CertFile == "":
		c.fail(key, "the certificate %q has no cert_file", name)
	case !pair && cert.CAFile == "":
		c.fail(key, "the certificate %q has no ca_file", name)
	}
}

func (c *checker) gatewayListener(key string, l *ListenerConfig, all []ListenerConfig, x *XDSConfig) {
	for _, name := range l.Certificates {
		c.named(key+".certificates", name, x, true)
	}
	if l.MinVersion != "" {
		c.oneOf(key+".min_version", l.MinVersion, "1.2", "1.3")
	}
	if l.ClientCA != "" {
		c.named(key+".client_ca", l.ClientCA, x, false)
	}
	if len(l.Certificates) == 0 && (l.MinVersion != "" || l.ClientCA != "" || l.ClientOptional) {
		c.fail(key+".certificates", "is missing: min_version, client_ca and client_optional are for TLS")
	}
	if l.ClientOptional && l.ClientCA == "" {
		c.fail(key+".client_ca", "is missing: client_optional is set")
	}
	switch {
	case l.RedirectTo != 0 && len(l.Certificates) > 0:
		c.fail(key+".redirect_to", "is for a listener without certificates")
	case l.RedirectTo != 0:
		if !slices.ContainsFunc(all, func(o ListenerConfig) bool { return len(o.Certificates) > 0 && portOf(o.Address) == l.RedirectTo }) {
			c.fail(key+".redirect_to", "%d is not the port of a listener of this group with certificates", l.RedirectTo)
		}
		c.address(key+".address", l.Address)
	case len(l.Certificates) > 0:
		c.address(key+".address", l.Address)
	default:
		c.loopbackUnless(key+".address", l.Address, "set certificates for HTTPS, or redirect_to")
	}
}

func (c *checker) upstream(key string, u *UpstreamConfig, x *XDSConfig) {
	schemes := map[string]bool{}
	for _, address := range u.Addresses {
		v, err := url.Parse(address)
		scheme, path, _ := strings.Cut(address, ":")
		socket := scheme == "unix" && strings.HasPrefix(path, "/") && len(path) <= maxSocketPath
		web := err == nil && (v.Scheme == "https" || v.Scheme == "http") && v.Port() != "" && (v.Path == "" || v.Path == "/") && v.RawQuery == "" && v.User == nil
		switch {
		case !socket && !web:
			c.fail(key+".addresses", "%q is not https://HOST:PORT, http://HOST:PORT or unix:/PATH", address)
		case web && v.Scheme == "http" && !isLoopback(v.Host):
			c.fail(key+".addresses", "%q is clear text, and not on Envoy's machine: use https", address)
		}
		schemes[scheme] = true
	}
	if len(schemes) > 1 {
		c.fail(key+".addresses", "must all be of one scheme")
	}
	c.twice(key+".addresses", u.Addresses)
	if u.CA != "" {
		c.named(key+".ca", u.CA, x, false)
	}
	if u.ClientCertificate != "" {
		c.named(key+".client_certificate", u.ClientCertificate, x, true)
	}
}

// portOf returns the port of an address, 0 if there is none.
func portOf(address string) int {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0
	}
	return int(a.Port())
}

// minVersion is the least version of TLS of a listener, as package tls has it.
func (l *ListenerConfig) minVersion() uint16 {
	if l.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}
