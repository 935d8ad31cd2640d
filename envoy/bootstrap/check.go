package bootstrap

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// OptionError says which of the Options is wrong, and why.
type OptionError struct {
	Option string // the field, "XDSServers.Name"; two fields are joined by ", "
	Why    string
}

// Error returns "OPTION WHY".
func (e *OptionError) Error() string { return e.Option + " " + e.Why }

// checker collects what is wrong.
type checker struct{ errs []error }

func (c *checker) wrong(option, why string) { c.errs = append(c.errs, &OptionError{option, why}) }

func (c *checker) err() error { return errors.Join(c.errs...) }

func (c *checker) need(option, value string) {
	if value == "" {
		c.wrong(option, "is missing")
	}
}

// local reads an address of this machine.
func (c *checker) local(option, address string, port0 bool) (endpoint, bool) {
	before := len(c.errs)
	if strings.HasPrefix(address, "/") {
		if len(address) > maxSocketPath {
			c.wrong(option, fmt.Sprintf("is longer than the %d bytes of a Unix socket's path: %s", maxSocketPath, address))
		}
		return endpoint{Path: address}, len(c.errs) == before
	}
	ap, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		c.wrong(option, fmt.Sprintf("is neither an absolute path nor ip:port: %q", address))
	case !ap.Addr().IsLoopback():
		c.wrong(option, fmt.Sprintf("is not a loopback address, and the connection is not encrypted: %s", address))
	case ap.Port() == 0 && !port0:
		c.wrong(option, "has port 0")
	}
	return endpoint{Host: ap.Addr().String(), Port: ap.Port()}, len(c.errs) == before
}

func (c *checker) ipPort(option, address string, port0 bool) (host string, port uint16) {
	if address == "" {
		return "", 0
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil || ap.Port() == 0 && !port0 {
		c.wrong(option, fmt.Sprintf("is not ip:port: %q", address))
	}
	return ap.Addr().String(), ap.Port()
}

// absolute wants an absolute, clean path: Envoy may run in another folder.
func (c *checker) absolute(option, path string) bool {
	switch {
	case path == "":
		c.wrong(option, "is missing: a connection to another machine needs a certificate on both sides")
	case !strings.HasPrefix(path, "/"):
		c.wrong(option, fmt.Sprintf("is not an absolute path: %q", path))
	default:
		return true
	}
	return false
}
