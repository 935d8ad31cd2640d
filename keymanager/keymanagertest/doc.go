// Package keymanagertest holds what tests need of the key manager: Run, the
// contract of the four interfaces of package keymanager as a table that runs
// over any implementation, and KeyManager, an implementation in memory that
// behaves: it passes the same table, counts calls and can be told to fail.
package keymanagertest
