// Package keymanager holds the nouns of API key management and the four
// contracts between the key manager and its gateways: Validator, Catalog,
// Revocations and Gateways.
//
// It imports the standard library only. authz and xds import this package and
// nothing below it; the subpackages do the work. The same four interfaces are
// served in this process and over the network, and a caller cannot tell which
// it holds.
//
// Three rules hold throughout. A refusal is a value, never an error. An error
// means "not known" and must be answered with 503, never with a denial and
// never with a pass. Every zero value refuses.
package keymanager
