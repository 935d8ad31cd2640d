// Package apis is authz's table of the published APIs, kept from the Catalog:
// for each API what is static about it, with its resources as a radix tree over
// path segments.
//
// Readers take no lock. A change replaces one API alone, whatever the number of
// the others; a snapshot is built beside the table and swapped in at its end.
package apis
