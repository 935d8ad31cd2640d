package keymanager

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Role is what a process is among the others.
type Role string

// The roles. A gateway is an Envoy.
const (
	RoleKeyManager Role = "keymanager"
	RoleXDS        Role = "xds"
	RoleAuthz      Role = "authz"
	RoleGateway    Role = "gateway"
)

// Peer is who stands at the other end of a connection, as its verified
// certificate says. The zero Peer is nobody, and may do nothing.
type Peer struct {
	Role  Role
	Group string // gateway group, of an authz and a gateway; else ""
	Name  string // of the instance; a gateway's is its node id
}

// String returns role/group/name or role/name, for logs.
func (p Peer) String() string {
	if p.Group != "" {
		return fmt.Sprintf("%s/%s/%s", p.Role, p.Group, p.Name)
	}
	return fmt.Sprintf("%s/%s", p.Role, p.Name)
}

// SameMachine reports whether the other end of a connection is a process of
// this machine: a Unix socket or a loopback address. Only there a connection
// may do without TLS.
func SameMachine(from net.Addr) bool {
	switch a := from.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		ip, ok := netip.AddrFromSlice(a.IP)
		return ok && ip.Unmap().IsLoopback()
	default:
		return false
	}
}

// VerifiedPeer reads the identity of the other end of a TLS connection; see
// ParsePeer. A certificate that was not verified, or none, is a KindForbidden
// error.
func VerifiedPeer(trustDomain string, state tls.ConnectionState) (Peer, error) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return Peer{}, Errorf(KindForbidden, "the other end shows no certificate that was verified")
	}
	return ParsePeer(trustDomain, state.PeerCertificates[0])
}

// ParsePeer reads the identity of a certificate that was verified before. It
// is the one URI among the subject alternative names (a SPIFFE ID):
//
//	spiffe://TRUSTDOMAIN/keymanager/NAME
//	spiffe://TRUSTDOMAIN/xds/NAME
//	spiffe://TRUSTDOMAIN/authz/GROUP/NAME
//	spiffe://TRUSTDOMAIN/gateway/GROUP/NAME
//
// An empty trustDomain, another one, no URI or more than one is a
// KindForbidden error.
func ParsePeer(trustDomain string, cert *x509.Certificate) (Peer, error) {
	if cert == nil || len(cert.URIs) == 0 {
		return Peer{}, Errorf(KindForbidden, "the certificate has no URI among its subject alternative names")
	}
	if len(cert.URIs) > 1 {
		return Peer{}, Errorf(KindForbidden, "the certificate has %d URIs among its subject alternative names; only one may be there", len(cert.URIs))
	}
	return parsePeer(trustDomain, cert.URIs[0])
}

func parsePeer(trustDomain string, id *url.URL) (Peer, error) {
	if trustDomain == "" || id.Scheme != "spiffe" || id.Host != trustDomain || id.User != nil || id.RawQuery != "" || id.Fragment != "" || id.RawPath != "" {
		return Peer{}, Errorf(KindForbidden, "the certificate's identity %q is not one of spiffe://%s", id.Redacted(), trustDomain)
	}
	var p Peer
	switch parts := strings.Split(strings.TrimPrefix(id.Path, "/"), "/"); {
	case len(parts) == 2 && (parts[0] == string(RoleKeyManager) || parts[0] == string(RoleXDS)):
		p = Peer{Role: Role(parts[0]), Name: parts[1]}
	case len(parts) == 3 && (parts[0] == string(RoleAuthz) || parts[0] == string(RoleGateway)):
		p = Peer{Role: Role(parts[0]), Group: parts[1], Name: parts[2]}
		if !peerName(p.Group) {
			p = Peer{}
		}
	}
	if !peerName(p.Name) {
		return Peer{}, Errorf(KindForbidden, "the certificate's identity %q is not ROLE/NAME or ROLE/GROUP/NAME", id.Redacted())
	}
	return p, nil
}

// peerName reports whether s is 1 to 200 of the characters of a SPIFFE ID's
// path segment (SPIFFE-ID section 2.2), and no dot segment.
func peerName(s string) bool {
	if s == "" || len(s) > 200 || s == "." || s == ".." {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
