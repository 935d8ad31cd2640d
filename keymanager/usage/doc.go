// Package usage takes what gateways report of each call that has ended (Envoy's
// gRPC access log service) and keeps it: identifiers and sizes, for analytics.
// It is not for billing: what cannot be kept in time is dropped and counted.
//
// A Receiver reads the streams and makes a record of each entry, a Writer keeps
// a bounded number of them and writes them in batches with one connection to
// the database, and a Pruner removes what is older than the retention. Nothing
// that is slow or away makes an Envoy wait, or memory grow.
//
// What a gateway sends is not believed further than its certificate goes: it
// speaks for itself alone, in a bounded number of short texts. Paths, headers
// and addresses are left behind even where an entry has them.
package usage
