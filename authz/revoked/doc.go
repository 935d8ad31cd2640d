// Package revoked is authz's memory of what must be forgotten, kept from the
// Revocations stream. It is asked about every verdict on every request, after
// every cache: deleting from caches could not win the race against a verdict
// that was read before an event and stored after it.
//
// What is Dead is remembered exactly. Of what is Stale only a number is kept,
// in a table of fixed size by a hash: two subjects that share a place make a
// verdict miss once without need, never the reverse. Readers take no
// lock that all of them share.
package revoked
