package xds

import (
	"crypto/tls"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/keymanager"
)

// A certificate becomes up to two secrets: its key pair and its authorities.
// Names have no dots: statistics take them apart there.
func pairSecret(certificate string) string      { return "pair/" + certificate }
func authoritySecret(certificate string) string { return "ca/" + certificate }

// listenerSecret lets the listener wait for ever: after a time-out its port
// would open, and every handshake fail.
func listenerSecret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: adsSource()}
}

// clusterSecret waits for Envoy's default of 15 s: with 0 a cluster whose secret
// does not come would hold back the acknowledgements of all clusters.
func clusterSecret(name string) *tlsv3.SdsSecretConfig {
	source := adsSource()
	source.InitialFetchTimeout = nil
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: source}
}

// listenerSocket terminates TLS. Of several certificates Envoy shows the one that
// is issued to the name in the handshake, else the first.
func listenerSocket(p *packer, t *ListenerTLS) *corev3.TransportSocket {
	oldest := tlsv3.TlsParameters_TLSv1_2
	if t.MinVersion == tls.VersionTLS13 {
		oldest = tlsv3.TlsParameters_TLSv1_3
	}
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{"h2", "http/1.1"},
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: oldest, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
	}
	for _, name := range t.Certificates {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, listenerSecret(pairSecret(name)))
	}
	if t.ClientCA != "" {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: listenerSecret(authoritySecret(t.ClientCA)),
		}
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&tlsv3.DownstreamTlsContext{
			CommonTlsContext:         common,
			RequireClientCertificate: wrapperspb.Bool(t.ClientCA != "" && !t.ClientOptional),
		})},
	}
}

// buildSecrets makes the secrets of a certificate.
func buildSecrets(name string, l *loaded) (out []*tlsv3.Secret) {
	inline := func(text []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: text}}
	}
	if len(l.key) > 0 {
		out = append(out, &tlsv3.Secret{Name: pairSecret(name), Type: &tlsv3.Secret_TlsCertificate{
			TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(l.chain), PrivateKey: inline(l.key)},
		}})
	}
	if len(l.authorities) > 0 {
		out = append(out, &tlsv3.Secret{Name: authoritySecret(name), Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(l.authorities)},
		}})
	}
	return out
}

// publishSecrets puts what is known of the named certificates into the log: an
// Envoy asks for it by name when a listener or a cluster needs it.
func (g *group) publishSecrets(names ...string) {
	var out []change
	for _, name := range names {
		l := g.certs.good[name]
		g.published[name] = true
		if l == nil {
			continue // what was sent before stays
		}
		for _, s := range buildSecrets(name, l) {
			value, version, err := encode(s)
			if err == nil {
				err = validate(s)
			}
			if err != nil { // without its text: it may show the key
				g.opts.Logger.Error("a secret cannot be built", "group", g.Name, "certificate", name)
				continue
			}
			out = append(out, change{kind: secrets, name: s.GetName(), version: version, value: value})
		}
	}
	g.log.update(out)
}

// takeCertificates sends what has changed, tries again the APIs that were
// refused, and quarantines those that may no longer use what they name. It
// returns the APIs to be looked at.
func (g *group) takeCertificates(c *certificates) (again []*keymanager.API) {
	g.certs = c
	used := map[string]bool{}
	for _, name := range g.own {
		used[name] = true
	}
	for _, mb := range g.members {
		for _, p := range []*plan{mb.want, mb.live, mb.good} {
			if p != nil {
				for _, name := range p.trust.certificates() {
					used[name] = true
				}
			}
		}
		if mb.doc == nil {
			continue
		}
		if mb.bad != nil || g.entitled(mb.want) != mb.want {
			again = append(again, mb.doc)
		}
	}
	for name := range g.published {
		if !used[name] {
			g.log.update([]change{{kind: secrets, name: pairSecret(name)}, {kind: secrets, name: authoritySecret(name)}})
			delete(g.published, name)
		}
	}
	g.publishSecrets(slices.Sorted(maps.Keys(used))...)
	return again
}

// entitled returns the plan, or nil if it names certificates that its
// organization may not use.
func (g *group) entitled(p *plan) *plan {
	if p != nil && len(p.trust.certificates()) > 0 && g.certs.backend(p.trust) != nil {
		return nil
	}
	return p
}

// evict takes the routes from the APIs that may no longer use the certificates
// of what they run with. What they are to become instead, if anything, comes
// when its cluster is warm.
func (g *group) evict(dirty map[*segment]bool) (out []move) {
	for _, mb := range g.members {
		if g.entitled(mb.live) == mb.live {
			mb.good = g.entitled(mb.good) // nothing falls back to it
			continue
		}
		mb.good = nil // an older one would be a wrong guess too, and its cluster would stay
		if mb.want == mb.live {
			mb.want = nil
		}
		mb.moving = true
		g.moving[mb] = true
		g.opts.Logger.Warn("API may no longer use a certificate of its back end; its routes are removed", "group", g.Name, "api", mb.id)
		if mb.want != nil {
			from := mb.live
			g.setLive(mb, nil, dirty)
			out = append(out, move{member: mb, from: from, revert: true})
		}
	}
	return out
}

// certificateProblems are the certificates that the group uses and that are not
// as they are configured, or have expired in use.
func (g *group) certificateProblems() (out []keymanager.RejectedResource) {
	now := g.opts.Now()
	for _, name := range slices.Sorted(maps.Keys(g.published)) {
		r := keymanager.RejectedResource{Type: secrets.url(), Name: name}
		l := g.certs.good[name]
		if p, bad := g.certs.problems[name]; bad {
			r.Reason, r.Since = p.reason, p.since
		} else if l != nil && !now.Before(l.expires) {
			r.Reason, r.Since = "it expired in use", l.expires
		} else {
			continue
		}
		out = append(out, r)
	}
	return out
}
