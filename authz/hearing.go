package authz

import (
	"context"
	"fmt"
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
// one, whose messages cannot be older than itself.
type hearing struct {
	complete atomic.Int64 // everything up to then has taken effect here
	last     atomic.Int64 // when the last message came, or the stream was opened
	begun    atomic.Bool  // a message has come
	cancel   atomic.Pointer[context.CancelCauseFunc]

	// For the goroutine of the stream alone.
	late   bool // something came too long after what was before it
	inside bool // between SnapshotBegin and SnapshotEnd
}

// silenceError ends a stream that cannot be relied on any more.
type silenceError struct{ silence time.Duration }

func (e *silenceError) Error() string {
	return fmt.Sprintf("silent for %s: what it still brings may be old", e.silence.Round(time.Millisecond))
}

// open notes a new stream, which cancel ends.
func (h *hearing) open(at time.Duration, cancel context.CancelCauseFunc) {
	h.late, h.inside = false, false
	h.begun.Store(false)
	h.last.Store(int64(at))
	h.cancel.Store(&cancel)
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
		return &silenceError{silence}
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
			(*cancel)(&silenceError{silence})
		}
	}
}
