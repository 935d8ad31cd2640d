package publish

import (
	"sync"

	"tollgate/keymanager"
)

// item is one entry of a feed: the log event with number seq.
type item[T any] struct {
	seq   uint64
	value T
}

// feed holds the newest part of the log, or of what was made of it, for any
// number of readers. One goroutine writes. What a reader was given is never
// changed.
type feed[T any] struct {
	keep int

	mu      sync.Mutex
	loaded  bool
	closed  bool
	head    keymanager.Position // the log has been read up to here
	base    uint64              // events up to here are no longer held
	items   []item[T]           // in order, base < seq <= head.Seq
	beats   uint64              // grows with each heartbeat
	changed chan struct{}       // closed and replaced with each change
}

func newFeed[T any](keep int) *feed[T] {
	return &feed[T]{keep: keep, changed: make(chan struct{})}
}

// place is where a reader stands.
type place int

const (
	unloaded place = iota // nothing has been read yet: wait
	held                  // what follows the reader's cursor is in the view
	behind                // it is no longer held: read the log
	ahead                 // the cursor is beyond the head
	foreign               // the cursor is of another epoch
	ended                 // no more will come
)

// view is what a reader sees of a feed.
type view[T any] struct {
	place   place
	items   []item[T] // after the cursor, up to head; only if held
	head    keymanager.Position
	beats   uint64
	changed <-chan struct{}
}

// view returns what follows cursor.
func (f *feed[T]) view(cursor keymanager.Position) view[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := view[T]{head: f.head, beats: f.beats, changed: f.changed}
	switch {
	case f.closed:
		v.place = ended
	case !f.loaded:
		v.place = unloaded
	case cursor.Epoch != f.head.Epoch:
		v.place = foreign
	case cursor.Seq > f.head.Seq:
		v.place = ahead
	case cursor.Seq < f.base:
		v.place = behind
	default:
		v.place = held
		i := len(f.items)
		for i > 0 && f.items[i-1].seq > cursor.Seq { // readers are mostly near the end
			i--
		}
		v.items = f.items[i:len(f.items):len(f.items)]
	}
	return v
}

// holds returns the head, and whether what follows cursor is held.
func (f *feed[T]) holds(cursor keymanager.Position) (head keymanager.Position, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head, f.loaded && !f.closed && cursor.Epoch == f.head.Epoch && cursor.Seq >= f.base && cursor.Seq <= f.head.Seq
}

// append adds what the log holds up to head, and drops what is too old.
func (f *feed[T]) append(items []item[T], head uint64, beats uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if head == f.head.Seq && beats == f.beats {
		return
	}
	f.items = append(f.items, items...)
	if len(f.items) > 2*f.keep { // seldom, and into a new array: old readers keep theirs
		drop := len(f.items) - f.keep
		f.base = f.items[drop-1].seq
		f.items = append(make([]item[T], 0, 2*f.keep+1), f.items[drop:]...)
	}
	f.head.Seq, f.beats = head, beats
	f.wake()
}

// reset starts again at head, with nothing held.
func (f *feed[T]) reset(head keymanager.Position, beats uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded, f.head, f.base, f.items, f.beats = true, head, head.Seq, nil, beats
	f.wake()
}

// close ends all readers.
func (f *feed[T]) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.wake()
}

func (f *feed[T]) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}
