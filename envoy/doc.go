// Package envoy is the agreement between xds, which configures Envoy, and
// authz, which Envoy asks: the names that travel through Envoy. It imports the
// standard library only.
package envoy
