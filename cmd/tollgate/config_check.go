package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
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

// checkConfig checks every value of cfg. The message names the field and what
// is allowed.
func checkConfig(cfg *Config, at places) error {
	c := &checker{at: at}
	if cfg.State.Dir == "" {
		c.fail("state.dir", "must name a folder")
	}
	c.oneOf("log.level", cfg.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", cfg.Log.Format, "text", "json")

	c.dsn(cfg.Store)
	c.between("store.max_connections", cfg.Store.MaxConnections, 2, 1000)

	c.loopback("keymanager.address", cfg.KeyManager.Address)
	c.socket("keymanager.socket", cfg.KeyManager.Socket)
	c.issuer(cfg.KeyManager.Issuer)
	c.span("keymanager.token_lifetime", cfg.KeyManager.TokenLifetime, time.Minute, 24*time.Hour)

	c.loopback("gateway.address", cfg.Gateway.Address)
	c.group(cfg.Gateway.Group)
	c.hosts(cfg.Gateway.Hosts)
	c.between("gateway.trusted_hops", cfg.Gateway.TrustedHops, 0, 10)
	c.absolute("gateway.ca_file", cfg.Gateway.CAFile)
	c.absolute("gateway.access_log", cfg.Gateway.AccessLog)

	c.socket("authz.socket", cfg.Authz.Socket)
	c.oneOf("authz.cache", cfg.Authz.Cache, "on", "off")
	c.between("authz.cache_entries", cfg.Authz.CacheEntries, 100, 50_000_000)
	c.between("authz.negative_entries", cfg.Authz.NegativeEntries, 100, 10_000_000)
	c.span("authz.cache_ttl", cfg.Authz.CacheTTL, time.Second, 24*time.Hour)
	c.span("authz.negative_ttl", cfg.Authz.NegativeTTL, 100*time.Millisecond, 5*time.Minute)
	c.span("authz.keymanager_timeout", cfg.Authz.KeyManagerTimeout, 10*time.Millisecond, 10*time.Second)
	c.between("authz.keymanager_calls", cfg.Authz.KeyManagerCalls, 1, 10_000)
	c.span("authz.max_stale", cfg.Authz.MaxStale, time.Second, 600*time.Second)

	if strings.Contains(cfg.XDS.Address, "/") {
		c.socket("xds.address", cfg.XDS.Address)
	} else if cfg.XDS.Address != "" {
		c.loopback("xds.address", cfg.XDS.Address)
	}
	c.address("ops.address", cfg.Ops.Address)
	c.between("envoy.concurrency", cfg.Envoy.Concurrency, 1, 256)
	c.loopback("sample.production", cfg.Sample.Production)
	c.loopback("sample.sandbox", cfg.Sample.Sandbox)
	c.distinct(cfg)
	if c.problems == nil {
		return nil
	}
	return errors.New(strings.Join(c.problems, "\n"))
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fail(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func (c *checker) between(key string, value, low, high int) {
	if value < low || value > high {
		c.fail(key, "%d is not between %d and %d", value, low, high)
	}
}

func (c *checker) span(key string, value Duration, low, high time.Duration) {
	if time.Duration(value) < low || time.Duration(value) > high {
		c.fail(key, "%s is not between %s and %s", value, Duration(low), Duration(high))
	}
}

func (c *checker) dsn(s StoreConfig) {
	if s.DSN != "" && s.DSNFile != "" {
		c.fail("store.dsn", "give dsn or dsn_file, not both")
	}
	if s.DSN == "" {
		return
	}
	u, err := url.Parse(string(s.DSN)) // its error would show the password
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Path == "" {
		c.fail("store.dsn", "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, or empty for SQLite in the state folder")
	}
}

// address accepts host:port with a port that can be named to others.
func (c *checker) address(key, value string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(value)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 {
		c.fail(key, "%q is not HOST:PORT with a port from 1 to 65535", value)
		return "", false
	}
	if _, err := netip.ParseAddr(host); err != nil {
		c.fail(key, "%q is not an IP address", host)
		return "", false
	}
	return host, true
}

// loopback accepts addresses that only this machine reaches: what listens
// there speaks clear text.
func (c *checker) loopback(key, value string) {
	host, ok := c.address(key, value)
	if ip, err := netip.ParseAddr(host); ok && (err != nil || !ip.IsLoopback()) {
		c.fail(key, "%q is clear text and must stay on this machine: use 127.0.0.1 or [::1]", value)
	}
}

func (c *checker) issuer(value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" ||
		u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		c.fail("keymanager.issuer", "%q is not a URL without query and fragment, such as https://login.example.com", value)
	}
}

var groupName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *checker) group(value string) {
	if !groupName.MatchString(value) {
		c.fail("gateway.group", "%q is not 1 to 63 of a-z, 0-9 and -", value)
	}
}

var hostName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

func (c *checker) hosts(list []string) {
	if len(list) == 0 {
		c.fail("gateway.hosts", "must name at least one host")
	}
	seen := map[string]bool{}
	for _, h := range list {
		if !hostName.MatchString(h) {
			c.fail("gateway.hosts", "%q is not a host name in lower case without a port", h)
		}
		if seen[h] {
			c.fail("gateway.hosts", "%q is there twice", h)
		}
		seen[h] = true
	}
}

func (c *checker) socket(key, value string) {
	if value == "" {
		return
	}
	if !strings.HasPrefix(value, "/") || len(value) > maxSocketPath {
		c.fail(key, "%q is not an absolute path of at most %d bytes", value, maxSocketPath)
	}
}

func (c *checker) absolute(key, value string) {
	if value != "" && !strings.HasPrefix(value, "/") {
		c.fail(key, "%q is not an absolute path", value)
	}
}

// distinct refuses two listeners on one address.
func (c *checker) distinct(cfg *Config) {
	used := map[string]string{}
	for _, l := range []struct{ key, address string }{
		{"gateway.address", cfg.Gateway.Address},
		{"keymanager.address", cfg.KeyManager.Address},
		{"ops.address", cfg.Ops.Address},
		{"xds.address", cfg.XDS.Address},
		{"sample.production", cfg.Sample.Production},
		{"sample.sandbox", cfg.Sample.Sandbox},
	} {
		if first, taken := used[l.address]; taken && l.address != "" {
			c.fail(l.key, "%q is also %s: each needs an address of its own", l.address, first)
		}
		used[l.address] = l.key
	}
}
