package xds

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Endpoint metadata that chooses one of several transport sockets.
const (
	socketMetadata = "envoy.transport_socket_match"
	socketKey      = "socket"
	clearSocket    = "clear text" // no host is named so
)

// sockets are the transport sockets of a cluster: one for all its endpoints, or
// one for each name (and one in clear text) where they differ.
type sockets struct {
	only    *corev3.TransportSocket // nil = clear text
	matches []*clusterv3.Cluster_TransportSocketMatch
}

// socket says which transport socket the endpoint needs.
func (e endpoint) socket() string {
	if e.tls {
		return e.host
	}
	return clearSocket
}

func newSockets(p *packer, ca string, ends []endpoint) (sockets, error) {
	var kinds []endpoint // one endpoint of each kind
	seen := map[string]bool{}
	for _, e := range ends {
		if e.tls && ca == "" {
			return sockets{}, fmt.Errorf("https to %q, but the gateway group has no file of trusted certificates", e.host)
		}
		if !seen[e.socket()] {
			seen[e.socket()] = true
			kinds = append(kinds, e)
		}
	}
	if len(kinds) == 1 {
		if !kinds[0].tls {
			return sockets{}, nil
		}
		return sockets{only: tlsSocket(p, ca, kinds[0])}, nil
	}
	var out sockets
	for _, e := range kinds {
		socket := &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.raw_buffer",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&rawv3.RawBuffer{})},
		}
		if e.tls {
			socket = tlsSocket(p, ca, e)
		}
		out.matches = append(out.matches, &clusterv3.Cluster_TransportSocketMatch{
			Name: e.socket(), Match: stringStruct(socketKey, e.socket()), TransportSocket: socket,
		})
	}
	return out, nil
}

// tlsSocket verifies the certificate by authority and by name; the name also
// goes out as SNI, which must not be an address (RFC 6066 section 3).
func tlsSocket(p *packer, ca string, e endpoint) *corev3.TransportSocket {
	name := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exact(e.host)}
	sni := e.host
	if e.ip() {
		name.SanType, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, ""
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&tlsv3.UpstreamTlsContext{
			Sni: sni,
			CommonTlsContext: &tlsv3.CommonTlsContext{
				// The maximum too: as a client Envoy stops at 1.2 by default.
				TlsParams: &tlsv3.TlsParameters{
					TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
					TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				},
				ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
					ValidationContext: &tlsv3.CertificateValidationContext{
						TrustedCa:                 &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: ca}},
						MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{name},
					},
				},
			},
		})},
	}
}
