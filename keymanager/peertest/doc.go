// Package peertest makes the certificates of processes that speak to each other,
// for tests.
package peertest
