// Package rpc carries the contracts of package keymanager over gRPC: Server
// answers for a key manager, Client implements the contracts for authz and xds.
//
// Protobuf stops here: convert*.go write the nouns and read them again. What
// cannot be read is never filled up with a default: an answer that is not
// understood is an error ("not known"), a stream ends, and an API is put out of
// use alone.
//
// Peers are known by their certificates (keymanager.ParsePeer). Without TLS
// only those on the same machine are served, by a loopback address or a Unix
// socket; they may do everything.
package rpc

//go:generate make --no-print-directory -C ../.. protobuf
