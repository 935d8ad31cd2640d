// Package admin is the management API of the key manager: organizations,
// users, tiers, APIs, applications with their keys and API keys,
// subscriptions, gateways, the audit trail, and apply, which takes many
// documents at once.
//
// Every kind of object has one JSON schema, its spec, that is the body of a
// PUT, the spec of what a GET answers, and the spec of a document for apply.
// All three go the same way: plan (read what is there, resolve names, check
// everything) and then write. A write, the events it causes and its audit row
// are one transaction; a request that is refused has changed nothing.
//
// Names are the identity of objects in URLs and documents; ids are made by the
// server, shown, and never change. Secrets are shown once, in the answer to
// the request that made them.
//
// Who may do what is one table, in rights.go. An object of another
// organization does not exist for a caller.
package admin
