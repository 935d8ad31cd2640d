package main

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

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

func (c *checker) group(key, value string) {
	if !groupName.MatchString(value) {
		c.fail(key, "%q is not 1 to 63 of a-z, 0-9 and -", value)
	}
}

var hostName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

func (c *checker) hosts(key string, list []string) {
	if len(list) == 0 {
		c.fail(key, "must name at least one host")
	}
	seen := map[string]bool{}
	for _, h := range list {
		if !hostName.MatchString(h) {
			c.fail(key, "%q is not a host name in lower case without a port", h)
		}
		if seen[h] {
			c.fail(key, "%q is there twice", h)
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

// pair accepts both of two files, or neither.
func (c *checker) pair(key, value, other, otherValue string) {
	if value != "" && otherValue == "" {
		c.fail(other, "is missing: %s is set", key)
	}
	if value == "" && otherValue != "" {
		c.fail(key, "is missing: %s is set", other)
	}
}

// listener accepts where a server of ours listens for other processes: a
// socket, a loopback address, and any address of this machine with TLS. "" is
// nowhere.
func (c *checker) listener(key, value string, secured bool, hint string) {
	switch {
	case value == "":
	case isSocket(value):
		c.socket(key, value)
	case secured:
		c.address(key, value)
	default:
		c.loopbackUnless(key, value, hint)
	}
}

// loopback accepts addresses that only this machine reaches: what listens
// there speaks clear text.
func (c *checker) loopback(key, value string) { c.loopbackUnless(key, value, "") }

func (c *checker) loopbackUnless(key, value, hint string) {
	host, ok := c.address(key, value)
	if ip, err := netip.ParseAddr(host); ok && (err != nil || !ip.IsLoopback()) {
		if hint != "" {
			hint = ", or " + hint
		}
		c.fail(key, "%q is clear text and must stay on this machine: use 127.0.0.1 or [::1]%s", value, hint)
	}
}

// lastPart is a key without its section.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }
