package keymanager

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestParsePeer(t *testing.T) {
	for _, tc := range []struct {
		uris string // separated by a space
		want Peer   // zero = refused
	}{
		{"spiffe://td/keymanager/km-1", Peer{RoleKeyManager, "", "km-1"}},
		{"spiffe://td/xds/a", Peer{RoleXDS, "", "a"}},
		{"spiffe://td/authz/edge/a", Peer{RoleAuthz, "edge", "a"}},
		{"spiffe://td/gateway/edge/node_1.a", Peer{RoleGateway, "edge", "node_1.a"}},
		{"", Peer{}},
		{"spiffe://td/xds/a spiffe://td/xds/b", Peer{}},
		{"spiffe://other/xds/a", Peer{}},
		{"https://td/xds/a", Peer{}},
		{"spiffe://td:1/xds/a", Peer{}},
		{"spiffe://u@td/xds/a", Peer{}},
		{"spiffe://td/xds/a?b", Peer{}},
		{"spiffe://td/xds/a#b", Peer{}},
		{"spiffe://td/xds/a%2Fb", Peer{}},
		{"spiffe://td/xds/%61", Peer{}}, // one spelling
		{"spiffe://td/xds/a/b", Peer{}},
		{"spiffe://td/xds/", Peer{}},
		{"spiffe://td/xds", Peer{}},
		{"spiffe://td/authz/a", Peer{}},
		{"spiffe://td/authz//a", Peer{}},
		{"spiffe://td/authz/../a", Peer{}},
		{"spiffe://td/gateway/a/b/c", Peer{}},
		{"spiffe://td/root/a", Peer{}},
		{"spiffe://td/xds/" + strings.Repeat("a", 201), Peer{}},
	} {
		var cert x509.Certificate
		for _, s := range strings.Fields(tc.uris) {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		got, err := ParsePeer("td", &cert)
		if got != tc.want || (err == nil) != (tc.want != Peer{}) {
			t.Errorf("%q is %v, %v", tc.uris, got, err)
		}
		if err != nil && KindOf(err) != KindForbidden {
			t.Errorf("%q: %v is not a refusal", tc.uris, err)
		}
	}
	if _, err := ParsePeer("", &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Path: "/xds/a"}}}); err == nil {
		t.Error("a trust domain is not asked for")
	}
	if _, err := ParsePeer("td", nil); err == nil {
		t.Error("no certificate is somebody")
	}
}

// What a connection itself says of its other end.
func TestOtherEnd(t *testing.T) {
	for _, tc := range []struct {
		from net.Addr
		same bool
	}{
		{&net.UnixAddr{Name: "/run/x.sock"}, true},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		{&net.TCPAddr{IP: net.IPv4(127, 9, 9, 9).To4()}, true},
		{&net.TCPAddr{IP: net.IPv6loopback}, true},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, false},
		{&net.TCPAddr{IP: net.IPv4zero}, false},
		{&net.TCPAddr{}, false},
		{&net.IPAddr{IP: net.IPv6loopback}, false},
		{nil, false},
	} {
		if got := SameMachine(tc.from); got != tc.same {
			t.Errorf("SameMachine(%v) is %v", tc.from, got)
		}
	}
	leaf := &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "td", Path: "/xds/a"}}}
	verified := [][]*x509.Certificate{{leaf}}
	for name, state := range map[string]tls.ConnectionState{
		"nothing": {}, "not verified": {PeerCertificates: []*x509.Certificate{leaf}}, "no certificate": {VerifiedChains: verified},
	} {
		if who, err := VerifiedPeer("td", state); who != (Peer{}) || KindOf(err) != KindForbidden {
			t.Errorf("%s: %v, %v", name, who, err)
		}
	}
	who, err := VerifiedPeer("td", tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: verified})
	if err != nil || who != (Peer{RoleXDS, "", "a"}) {
		t.Errorf("%v, %v", who, err)
	}
}
