package xds

import (
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
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
