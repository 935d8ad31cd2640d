package xds

import (
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// Endpoint metadata that chooses one of several transport sockets.
const (
	socketMetadata = "envoy.transport_socket_match"
	socketKey      = "socket"
	clearSocket    = "clear text" // no host is named so
)

// trust says how an https back end is verified, and what Envoy shows it.
type trust struct {
	file   string // of authorities, as Envoy sees it
	ca     string // name of the certificate that has the authorities, instead of file
	client string // name of the certificate that Envoy shows; "" = none
	name   string // what the back end's certificate must be issued to; "" = its host
	env    string // the environment whose own it is; "" = every endpoint's
	// org is whose right to the named certificates it is.
	org keymanager.OrganizationID
}

// trusts are those of an API: one, or two where the sandbox has its own; none
// without https.
type trusts []trust

// certificates are the names of the certificates that they need.
func (ts trusts) certificates() (out []string) {
	for _, t := range ts {
		for _, name := range []string{t.ca, t.client} {
			if name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// verify says of each https endpoint of an API how it is verified, and returns
// the different ways.
func verify(g *Group, api *keymanager.API, ends []endpoint) (out trusts) {
	as := func(env string, t *keymanager.BackendTLS) trust {
		tr := trust{file: g.CAFile, env: env}
		if t != nil {
			tr.ca, tr.client, tr.name, tr.org = t.CA, t.ClientCertificate, t.ServerName, api.Organization
		}
		return tr
	}
	for i := range ends {
		e := &ends[i]
		if !e.tls {
			continue
		}
		e.trust = as("", api.Backend.TLS)
		if own := api.Backend.SandboxTLS; own != nil && e.env == envoy.EnvSandbox {
			e.trust = as(e.env, own)
		}
		if !slices.Contains(out, e.trust) {
			out = append(out, e.trust)
		}
	}
	return out
}

// sockets are the transport sockets of a cluster: one for all its endpoints, or
// one for each name (and one in clear text) where they differ.
type sockets struct {
	only    *corev3.TransportSocket // nil = clear text
	matches []*clusterv3.Cluster_TransportSocketMatch
}

// socket says which transport socket the endpoint needs.
func (e endpoint) socket() string {
	switch {
	case !e.tls:
		return clearSocket
	case e.trust.env != "":
		return e.trust.env + " " + e.host // no host is named so either
	default:
		return e.host
	}
}

func newSockets(p *packer, ends []endpoint) (sockets, error) {
	var kinds []endpoint // one endpoint of each kind
	seen := map[string]bool{}
	for _, e := range ends {
		if e.tls && e.trust.file == "" && e.trust.ca == "" {
			return sockets{}, fmt.Errorf("https to %q, but neither it nor the gateway group has trusted certificates", e.host)
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
		return sockets{only: tlsSocket(p, kinds[0])}, nil
	}
	var out sockets
	for _, e := range kinds {
		socket := &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.raw_buffer",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&rawv3.RawBuffer{})},
		}
		if e.tls {
			socket = tlsSocket(p, e)
		}
		out.matches = append(out.matches, &clusterv3.Cluster_TransportSocketMatch{
			Name: e.socket(), Match: stringStruct(socketKey, e.socket()), TransportSocket: socket,
		})
	}
	return out, nil
}

// tlsSocket verifies the certificate by authority and by name; the name also
// goes out as SNI, which must not be an address (RFC 6066 section 3).
func tlsSocket(p *packer, e endpoint) *corev3.TransportSocket {
	tr, host := e.trust, endpoint{host: e.host}
	if tr.name != "" {
		host.host = tr.name
	}
	name := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exact(host.host)}
	sni := host.host
	if host.ip() {
		name.SanType, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, ""
	}
	context := &tlsv3.CommonTlsContext{
		// The maximum too: as a client Envoy stops at 1.2 by default.
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
	}
	validation := &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{name}}
	if tr.ca == "" {
		validation.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: tr.file}}
		context.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation}
	} else {
		context.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         validation,
				ValidationContextSdsSecretConfig: clusterSecret(authoritySecret(tr.ca)),
			},
		}
	}
	if tr.client != "" {
		context.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{clusterSecret(pairSecret(tr.client))}
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&tlsv3.UpstreamTlsContext{
			Sni: sni, CommonTlsContext: context,
		})},
	}
}
