// Package publish tells gateways what changes. Service turns the store's log
// into keymanager.Catalog and keymanager.Revocations; Gateways keeps what the
// gateways report back.
//
// One goroutine reads the log (tail), whoever wrote to it, and keeps its newest
// events in memory (feed); another reads the objects that they name. Any number
// of streams read from there, each at its own pace. One that falls behind what
// is kept reads the log itself, and one that falls behind the log, or is of
// another epoch, gets a snapshot. A reader can therefore neither hold up
// another one nor make memory grow, and none can miss an event: numbers are
// dense, so that a gap is seen by arithmetic.
//
// A heartbeat says that the log was read a moment ago: while the store does not
// answer there are none, and gateways notice.
package publish
