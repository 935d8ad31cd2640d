package authz

import (
	"net/netip"
	"strings"

	"tollgate/keymanager"
)

// restrictions says whether a credential may be used from where the request
// comes: from one of its networks and from one of its referers, if it has any.
// What cannot be told is refused.
func restrictions(g *keymanager.Grant, r *Request) Reason {
	if len(g.Networks) > 0 && !fromNetwork(g.Networks, r.ClientAddress) {
		return networkRefused
	}
	if len(g.Referers) > 0 && !fromReferer(g.Referers, r.Referer) {
		return refererRefused
	}
	return allowed
}

func fromNetwork(networks []netip.Prefix, client Header) bool {
	text, one := client.only()
	if !one {
		return false
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	address = address.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}

func fromReferer(patterns []string, referer Header) bool {
	text, one := referer.only()
	if !one || text == "" {
		return false
	}
	for _, p := range patterns {
		if glob(p, text) {
			return true
		}
	}
	return false
}

// glob matches the whole of s with a pattern in which "*" stands for any run of
// characters and every other character for itself.
func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
