package keymanager

import (
	"context"
	"encoding/hex"
	"fmt"
)

// Epoch names one line of the database's history. A restored database has a
// new one: positions of different epochs cannot be compared.
type Epoch [16]byte

// String returns the epoch as hexadecimal digits.
func (e Epoch) String() string { return hex.EncodeToString(e[:]) }

// Position is a place in the log: events are numbered densely from 1. The zero
// Position is before everything, and of no epoch.
type Position struct {
	Epoch Epoch
	Seq   uint64
}

// String returns epoch:seq, for logs.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.Epoch, p.Seq) }

// Reached reports whether p is at or after q, in the same epoch.
func (p Position) Reached(q Position) bool { return p.Epoch == q.Epoch && p.Seq >= q.Seq }

// MessageType tells the messages of a stream apart. The zero value is invalid.
type MessageType uint8

// The messages of a Catalog or Revocations stream. A stream is resumed at the
// position asked for, or starts with a snapshot: SnapshotBegin, Items,
// SnapshotEnd. The receiver swaps the snapshot in at SnapshotEnd, forgets what
// it lacks, and is loaded only from then on. A snapshot can come again at any
// time.
const (
	SnapshotBegin MessageType = iota + 1
	SnapshotEnd
	Item
	Heartbeat // nothing more happened up to At; every second, and when the head moved without an Item
)

// Mark is the place of a message in its stream. The log is dense but a stream
// is a part of it, so each message names the position of the one before it:
// After other than the last At is a gap, and the receiver starts again from
// the zero Position. Within a snapshot both are the position of the snapshot.
type Mark struct {
	Type  MessageType
	At    Position // of this message; of a Heartbeat: the head
	After Position // of the message before it on this stream
}

// CatalogKind is a kind of published object.
type CatalogKind uint8

// The kinds of the catalog.
const (
	CatalogAPI CatalogKind = iota + 1
	CatalogTier
)

// Change is one message of a Catalog stream. For an Item exactly one of API,
// Tier, RemovedAPI and RemovedTier is set.
type Change struct {
	Mark
	API         *API // as it is now; shared, not to be changed
	Tier        *Tier
	RemovedAPI  APIID
	RemovedTier *TierRef
}

// TierRef names a tier.
type TierRef struct {
	Organization OrganizationID
	Name         TierName
}

// Catalog answers: what is published?
type Catalog interface {
	// Watch calls fn with every change of kinds after from, in order, and
	// returns when ctx ends, fn fails (with its error) or the stream breaks
	// (KindUnavailable). An API that is not routed comes as an Item like any
	// other: the receiver drops it. fn is never called concurrently.
	Watch(ctx context.Context, from Position, kinds []CatalogKind, fn func(Change) error) error
}
