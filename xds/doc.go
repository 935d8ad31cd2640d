// Package xds publishes: it follows the catalog, builds Envoy's resources from
// it, proves them, and pushes what changed to every Envoy of a gateway group.
//
// Reading order: controller.go (what the catalog says), group.go and move.go (the
// order of a change at Envoy: cluster, table, removal), refuse.go (what happens
// to an API that Envoy refuses) and again.go (when it is tried again),
// changelog.go (what is current), admission.go (which Envoy is served), stream.go and
// answer.go (what each Envoy is sent and has acknowledged), then plan.go, the
// pure builders listener.go, scope.go and cluster.go, and prove.go, which
// refuses what they must not build. certificate.go reads what listeners and back
// ends need of keys and authorities, and secret.go publishes it.
//
// One ScopedRouteConfiguration with its table inline holds all APIs whose
// contexts share a first path segment: it is the unit of change at Envoy. Each
// API has one cluster with a production and a sandbox subset.
//
// Nothing here asks the key manager while it serves: without it, Envoys keep
// what they have and new ones get the last known content.
package xds
