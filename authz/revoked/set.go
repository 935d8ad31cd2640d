package revoked

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"tollgate/keymanager"
)

// Answer says what has become of a verdict. The zero value is not known.
type Answer uint8

// The answers of Check.
const (
	Unknown Answer = iota // nothing is loaded yet
	Live                  // nothing says otherwise
	Dead                  // refused, whatever the verdict says
	Stale                 // read before something changed: ask again
)

// DefaultMaxTokens is the number of dead tokens that are remembered one by one.
const DefaultMaxTokens = 1 << 20

// Set is everything that must be forgotten. Apply and Start are for the one
// goroutine that follows Revocations; the rest is safe for concurrent use.
type Set struct {
	maxTokens int64
	cursor    keymanager.Cursor
	building  *state // between the begin and the end of a snapshot
	current   atomic.Pointer[state]
	position  atomic.Pointer[keymanager.Position]
}

// state belongs to one epoch.
type state struct {
	// floor: verdicts read before it are stale. It is where the snapshot was
	// taken, which tells nothing about what became stale before.
	floor keymanager.Position
	stale staleTable
	dead  deadSet
	// coarse: the snapshot holds too many tokens to remember. Only while it
	// comes: the floor alone refuses them, as state.coarser says.
	coarse bool
}

func newState(floor keymanager.Position) *state {
	st := &state{floor: floor, dead: newDeadSet()}
	st.stale.seed = maphash.MakeSeed()
	return st
}

// New returns a set that has not loaded anything yet. Beyond maxTokens dead
// tokens (0 = DefaultMaxTokens) they are not remembered one by one any more.
func New(maxTokens int) *Set {
	if maxTokens <= 0 {
		maxTokens = DefaultMaxTokens
	}
	s := &Set{maxTokens: int64(maxTokens)}
	s.position.Store(&keymanager.Position{})
	return s
}

// Check says whether v, a verdict about api, may still be used. A verdict of
// another epoch than the set's, or without one, is stale.
func (s *Set) Check(v *keymanager.Verdict, api keymanager.APIID) Answer {
	st := s.current.Load()
	switch {
	case st == nil:
		return Unknown
	case st.dead.has(v):
		return Dead
	case !v.Head.Reached(st.floor), st.stale.after(v, api):
		return Stale
	default:
		return Live
	}
}

// Loaded reports whether a first snapshot is complete.
func (s *Set) Loaded() bool { return s.current.Load() != nil }

// Position returns the place in the log up to which every event has taken
// effect. A verdict that has reached it is not stale, unless more has come
// since.
func (s *Set) Position() keymanager.Position { return *s.position.Load() }

// Newer returns the position that a verdict must have reached to take the place
// of v, which is stale. It is beyond v also while the event that made it so is
// just taking effect, and Position does not tell of it yet.
func (s *Set) Newer(v *keymanager.Verdict) keymanager.Position {
	p := s.Position()
	if v.Head.Reached(p) {
		p.Seq = v.Head.Seq + 1
	}
	return p
}

// Len returns the number of dead tokens and of other dead entries.
func (s *Set) Len() (tokens, others int) {
	if st := s.current.Load(); st != nil {
		d := &st.dead
		return int(d.tokens.size.Load()),
			int(d.families.size.Load() + d.clients.size.Load() + d.users.size.Load() + d.stores.size.Load())
	}
	return 0, 0
}

// Start returns the position to follow Revocations from, for a new stream.
func (s *Set) Start() keymanager.Position {
	s.building = nil
	return s.cursor.Start()
}

// Apply takes the next message of the stream. An error means that messages are
// missing: the stream must be started again.
func (s *Set) Apply(e keymanager.Event) error {
	if err := s.cursor.Accept(e.Mark); err != nil {
		s.building = nil
		return err
	}
	switch e.Type {
	case keymanager.SnapshotBegin:
		s.building = newState(e.At)
	case keymanager.SnapshotEnd:
		s.building.coarse = false // what dies from now on is remembered
		s.current.Store(s.building)
		s.building = nil
	case keymanager.Item:
		into := s.building
		if into == nil {
			into = s.current.Load()
		}
		if e.Dead != nil && !(into.coarse && e.Dead.TokenID != (keymanager.TokenID{})) {
			into.dead.add(*e.Dead)
		}
		if into == s.building && into.dead.tokens.size.Load() > s.maxTokens {
			into.dead.tokens, into.coarse = newMarks[keymanager.TokenID](), true
		}
		if e.Stale != nil {
			into.stale.add(*e.Stale, e.At.Seq)
		}
	}
	if s.cursor.InSnapshot() {
		return nil
	}
	at := s.cursor.Position()
	st := s.current.Load()
	if e.Type == keymanager.Heartbeat && !e.Now.IsZero() {
		st.dead.forget(e.Now)
	}
	if st.dead.tokens.size.Load() > s.maxTokens {
		s.current.Store(st.coarser(at))
	}
	s.position.Store(&at)
	return nil
}

// coarser gives the dead tokens up for a higher floor: every verdict read
// before is asked for again, and one read since says itself that its token is
// revoked. That bounds the memory, forgets nothing, and costs every cached
// verdict one read.
func (st *state) coarser(at keymanager.Position) *state {
	out := newState(at)
	tokens := out.dead.tokens
	out.dead = st.dead // the old state goes on to see what is added: never wrong
	out.dead.tokens = tokens
	return out
}

// slack is how long an entry outlives the last credential that it concerns,
// for clocks that differ.
const slack = time.Minute
