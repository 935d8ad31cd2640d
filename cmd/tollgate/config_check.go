package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// checker collects what is wrong with a configuration.
type checker struct {
	at       places
	problems []string
}

func (c *checker) fail(key, format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("%s: %s: %s", c.at.of(key), key, fmt.Sprintf(format, args...)))
}

// checkConfig checks every value of cfg, and that a process with these roles
// can work with it; the zero roles check the values alone. The message names
// the field and what is allowed.
func checkConfig(cfg *Config, r roles, at places) error {
	c := &checker{at: at}
	if cfg.State.Dir == "" {
		c.fail("state.dir", "must name a folder")
	}
	c.oneOf("log.level", cfg.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", cfg.Log.Format, "text", "json")
	for _, s := range secrets(cfg) {
		if *s.value != "" && *s.file != "" {
			c.fail(s.key, "give %s or %[1]s_file, not both", lastPart(s.key))
		}
	}
	c.dsn(cfg.Store)
	c.between("store.max_connections", cfg.Store.MaxConnections, 2, 1000)
	c.peers(cfg)
	c.keyManager(&cfg.KeyManager)
	c.gateway(&cfg.Gateway, &cfg.XDS)
	c.authz(cfg)
	c.redis(&cfg.Redis)
	c.xds(cfg)
	c.address("ops.address", cfg.Ops.Address)
	c.span("ops.drain_wait", cfg.Ops.DrainWait, 0, 5*time.Minute)
	c.span("ops.drain_time", cfg.Ops.DrainTime, 100*time.Millisecond, 10*time.Minute)
	c.between("envoy.concurrency", cfg.Envoy.Concurrency, 1, 256)
	c.loopback("sample.production", cfg.Sample.Production)
	c.loopback("sample.sandbox", cfg.Sample.Sandbox)
	c.distinct(cfg)
	if r != (roles{}) {
		c.ineffective(cfg, r)
		c.together(cfg, r)
	}
	if c.problems == nil {
		return nil
	}
	return errors.New(strings.Join(c.problems, "\n"))
}

func (c *checker) keyManager(k *KeyManagerConfig) {
	c.pair("keymanager.cert_file", k.CertFile, "keymanager.key_file", k.KeyFile)
	if k.CertFile != "" {
		c.address("keymanager.address", k.Address)
	} else {
		c.loopbackUnless("keymanager.address", k.Address, "set keymanager.cert_file and keymanager.key_file for HTTPS")
	}
	c.socket("keymanager.socket", k.Socket)
	c.issuer(k.Issuer)
	c.span("keymanager.token_lifetime", k.TokenLifetime, time.Minute, 24*time.Hour)
	c.span("keymanager.usage.retention", k.Usage.Retention, time.Hour, 10*366*24*time.Hour)
	c.between("keymanager.usage.queue", k.Usage.Queue, 100, 1_000_000)
}

func (c *checker) gateway(g *GatewayConfig, x *XDSConfig) {
	if len(g.Certificates) > 0 {
		c.address("gateway.address", g.Address)
	} else {
		c.loopbackUnless("gateway.address", g.Address, "set gateway.certificates for HTTPS")
	}
	for _, name := range g.Certificates {
		c.named("gateway.certificates", name, x, true)
	}
	c.group("gateway.group", g.Group)
	c.hosts("gateway.hosts", g.Hosts)
	c.between("gateway.trusted_hops", g.TrustedHops, 0, 10)
	c.absolute("gateway.ca_file", g.CAFile)
	c.absolute("gateway.access_log", g.AccessLog)
}

func (c *checker) authz(cfg *Config) {
	a := &cfg.Authz
	c.socket("authz.socket", a.Socket)
	if isSocket(a.Address) {
		c.fail("authz.address", "must be HOST:PORT; the socket is authz.socket")
	}
	c.listener("authz.address", a.Address, cfg.TLS.enabled(), tlsHint)
	c.oneOf("authz.cache", a.Cache, "on", "off")
	c.between("authz.cache_entries", a.CacheEntries, 100, 50_000_000)
	c.between("authz.negative_entries", a.NegativeEntries, 100, 10_000_000)
	c.span("authz.cache_ttl", a.CacheTTL, time.Second, 24*time.Hour)
	c.span("authz.negative_ttl", a.NegativeTTL, 100*time.Millisecond, 5*time.Minute)
	c.span("authz.keymanager_timeout", a.KeyManagerTimeout, 10*time.Millisecond, 10*time.Second)
	c.between("authz.keymanager_calls", a.KeyManagerCalls, 1, 10_000)
	c.span("authz.max_stale", a.MaxStale, time.Second, 600*time.Second)
	c.span("authz.watchdog", a.Watchdog, time.Second, 5*time.Minute)
}

// distinct refuses two listeners on one address.
func (c *checker) distinct(cfg *Config) {
	used := map[string]string{}
	for _, l := range []struct{ key, address string }{
		{"gateway.address", cfg.Gateway.Address},
		{"keymanager.address", cfg.KeyManager.Address},
		{"ops.address", cfg.Ops.Address},
		{"xds.address", cfg.XDS.Address},
		{"rpc.address", cfg.RPC.Address},
		{"authz.address", cfg.Authz.Address},
		{"sample.production", cfg.Sample.Production},
		{"sample.sandbox", cfg.Sample.Sandbox},
	} {
		if first, taken := used[l.address]; taken && l.address != "" {
			c.fail(l.key, "%q is also %s: each needs an address of its own", l.address, first)
		}
		used[l.address] = l.key
	}
}
