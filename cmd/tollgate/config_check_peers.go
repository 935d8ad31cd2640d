package main

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"tollgate/authz/cache"
)

// tlsHint is what an address beyond this machine needs.
const tlsHint = "set tls.cert_file, tls.key_file, tls.ca_file and tls.trust_domain"

// peers checks how this process and the others find and trust each other.
func (c *checker) peers(cfg *Config) {
	t := &cfg.TLS
	for _, f := range []struct{ key, value string }{
		{"tls.cert_file", t.CertFile}, {"tls.key_file", t.KeyFile}, {"tls.ca_file", t.CAFile}, {"tls.trust_domain", t.TrustDomain},
	} {
		if f.value == "" && *t != (TLSConfig{}) {
			c.fail(f.key, "is missing: cert_file, key_file, ca_file and trust_domain belong together")
		}
	}
	if t.TrustDomain != "" && !hostName.MatchString(t.TrustDomain) {
		c.fail("tls.trust_domain", "%q is not a name such as gateways.example.com", t.TrustDomain)
	}
	c.listener("rpc.address", cfg.RPC.Address, t.enabled(), tlsHint)
	for _, server := range cfg.RPC.Servers {
		c.server("rpc.servers", server)
		if !t.enabled() && !isLoopback(server) {
			c.fail("rpc.servers", "%q is not on this machine and needs TLS: %s", server, tlsHint)
		}
	}
	c.twice("rpc.servers", cfg.RPC.Servers)
}

// server accepts where something listens that we connect to: a socket, or
// HOST:PORT with a name or an address.
func (c *checker) server(key, value string) {
	if isSocket(value) {
		c.socket(key, value)
		return
	}
	host, port, err := net.SplitHostPort(value)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		c.fail(key, "%q is not HOST:PORT with a port from 1 to 65535", value)
	}
}

func (c *checker) twice(key string, list []string) {
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			c.fail(key, "%q is there twice", v)
		}
	}
}

func (c *checker) redis(r *RedisConfig) {
	if r.Mode == "" {
		if len(r.Addresses) > 0 {
			c.fail("redis.mode", "is missing: one of single, sentinel, cluster")
		}
		return
	}
	c.oneOf("redis.mode", r.Mode, "single", "sentinel", "cluster")
	for _, a := range r.Addresses {
		c.server("redis.addresses", a)
	}
	c.twice("redis.addresses", r.Addresses)
	switch n := len(r.Addresses); {
	case n == 0:
		c.fail("redis.addresses", "must name at least one HOST:PORT")
	case n > 1 && r.Mode == "single":
		c.fail("redis.addresses", "must name one address with the mode single; for more there are sentinel and cluster")
	}
	if sentinel := r.Mode == "sentinel"; sentinel != (r.MasterName != "") {
		c.fail("redis.master_name", "is for the mode sentinel, and must be set there")
	} else if !sentinel && (r.SentinelUsername != "" || r.SentinelPassword != "" || r.SentinelPasswordFile != "") {
		c.fail("redis.sentinel_username", "sentinel_username and sentinel_password are for the mode sentinel")
	}
	if r.Username != "" && r.Password == "" && r.PasswordFile == "" {
		c.fail("redis.password", "is missing: username is set")
	}
	c.between("redis.database", r.Database, 0, 1023)
	if r.Database != 0 && r.Mode == "cluster" {
		c.fail("redis.database", "must be 0 with the mode cluster")
	}
	c.pair("redis.tls.cert_file", r.TLS.CertFile, "redis.tls.key_file", r.TLS.KeyFile)
	if r.TLS.CAFile == "" && r.TLS != (RedisTLSConfig{}) {
		c.fail("redis.tls.ca_file", "is missing: the other settings of redis.tls are without effect")
	}
	c.span("redis.timeout", r.Timeout, cache.MinRedisTimeout, cache.MaxRedisTimeout)
}

// overNetwork reports whether any of the servers is reached by TCP.
func overNetwork(servers []string) bool {
	return slices.ContainsFunc(servers, func(s string) bool { return !isSocket(s) })
}

// together checks what the roles of one process need of each other.
func (c *checker) together(cfg *Config, r roles) {
	if cfg.TLS.enabled() && r.remote() && r.authz && r.xds && overNetwork(cfg.RPC.Servers) {
		c.fail("tls.cert_file", "a certificate is for one role, and this process runs %s apart from the key manager: "+
			"give each of them a process of its own", r)
	}
	if cfg.TLS.enabled() && overNetwork(cfg.RPC.Servers) && slices.ContainsFunc(cfg.RPC.Servers, isSocket) {
		c.fail("rpc.servers", "name addresses, which are reached with TLS, or sockets, which are not, but not both")
	}
}
