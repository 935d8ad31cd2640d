package authz

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/keymanager"
)

// firstMessage is how long a new stream may take to begin: the key manager may
// have to read a large snapshot first.
const firstMessage = 30 * time.Second

// hearing is what is known of one stream from the key manager. Its times are
// durations since contact.started, by the clock that no step moves. (On Linux
// that clock goes on while the process is stopped, but not while the whole
// machine is suspended.)
//
// That a message came says only that it was sent at some time before: while the
// process or the network stood still, old ones pile up in buffers. So a message
// counts only if the one before it on the same stream, or the opening of the
// stream, was at most staleAfter ago. Otherwise the stream is left for a new
// one, whose messages cannot be older than itself. A stream whose messages come
// in time, but each later than the one before, is left too: a network that lets
// little through would otherwise pass for contact while what it brings grows
// old.
type hearing struct {
	complete atomic.Int64 // everything up to then has taken effect here
	last     atomic.Int64 // when the last message came, or the stream was opened
	begun    atomic.Bool  // a message has come
	cancel   atomic.Pointer[context.CancelCauseFunc]

	// For the goroutine of the stream alone.
	late   bool          // something came too long after what was before it
	inside bool          // between SnapshotBegin and SnapshotEnd
	behind bool          // what came is known to be old
	lag    time.Duration // by how much the last message was later than the promptest
	ahead  time.Duration // how far the sender's clock was ahead at most
}

// silenceError ends a stream that cannot be relied on any more.
type silenceError struct{ silence, lag time.Duration }

func (e *silenceError) Error() string {
	if e.lag > staleAfter {
		return fmt.Sprintf("what it brings has been on its way for %s", e.lag.Round(time.Millisecond))
	}
	return fmt.Sprintf("silent for %s: what it still brings may be old", e.silence.Round(time.Millisecond))
}

// open notes a new stream, which cancel ends.
func (h *hearing) open(at time.Duration, cancel context.CancelCauseFunc) {
	h.late, h.inside, h.behind = false, false, false
	h.lag, h.ahead = 0, math.MinInt64
	h.begun.Store(false)
	h.last.Store(int64(at))
	h.cancel.Store(&cancel)
}

// sent takes what the sender's clock showed when it sent the message that comes
// at a time. The promptest message of the stream came within staleAfter, so
// that what is more than that later than it says by its clock is old, or the
// clock was set back: then the new stream has nothing against it.
func (h *hearing) sent(theirs time.Time, at time.Duration) {
	ahead := time.Duration(theirs.UnixNano()) - at
	h.ahead = max(h.ahead, ahead)
	h.lag = h.ahead - ahead
	h.late = h.late || h.lag > staleAfter
}

// heard notes that a message came and has taken effect. An error means that it
// may be old, and that the stream must end.
func (h *hearing) heard(at time.Duration, t keymanager.MessageType) error {
	silence := at - time.Duration(h.last.Swap(int64(at)))
	h.begun.Store(true)
	switch t {
	case keymanager.SnapshotBegin:
		h.inside = true
	case keymanager.SnapshotEnd:
		h.inside = false
	}
	h.late = h.late || silence > staleAfter
	switch {
	case h.inside:
		return nil // what is in use is not yet what the snapshot brings
	case h.late:
		return &silenceError{silence, h.lag}
	case h.behind:
		return nil
	default:
		h.complete.Store(int64(at))
		return nil
	}
}

// leave ends a stream that has been silent for too long, for another one: the
// key manager may have lost its database, and there may be another.
func (h *hearing) leave(at time.Duration) {
	limit := staleAfter
	if !h.begun.Load() {
		limit = firstMessage
	}
	if silence := at - time.Duration(h.last.Load()); silence > limit {
		if cancel := h.cancel.Swap(nil); cancel != nil {
			(*cancel)(&silenceError{silence: silence})
		}
	}
}

// past is how far the log was known to be some time ago: a stream that is not
// there yet brings what is old.
type past struct {
	mu           sync.Mutex
	older, newer keymanager.Position
	at           time.Duration // of newer
}

// tell notes how far the log is.
func (p *past) tell(head keymanager.Position, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.newer.Epoch != head.Epoch:
		p.older, p.newer, p.at = keymanager.Position{}, head, at
	case at-p.at >= staleAfter:
		p.older, p.newer, p.at = p.newer, head, at
	}
}

// beyond reports whether the log was known to be further than a position
// staleAfter ago.
func (p *past) beyond(at keymanager.Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.older.Epoch == at.Epoch && p.older.Seq > at.Seq
}
