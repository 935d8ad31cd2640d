package revoked

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// always is after the issue of every credential.
const always = math.MaxInt64

// never expires.
const never = math.MaxUint32

// markShards is how many locks the readers of marks share. Nobody holds one for
// longer than a look-up.
const markShards = 64

// marks says of each key before when its credentials are dead. A million of
// them is no surprise, so they are small values in plain maps: 60 to 90 bytes
// each with all that belongs to them, which the garbage collector does not look
// at. One goroutine writes.
type marks[K comparable] struct {
	seed   maphash.Seed
	size   atomic.Int64
	shards [markShards]struct {
		mu    sync.RWMutex
		byKey map[K]mark
	}
	// due lists the keys by the minute in which they may be forgotten; only the
	// writer uses it.
	due map[int64][]K
	// oldest is the first minute that may have an entry in due.
	oldest int64
}

type mark struct {
	before  packed // credentials issued before it are dead; Unix nanoseconds
	expires uint32 // Unix seconds
}

// packed is an int64 that is aligned like an uint32: a mark then takes 12 bytes
// instead of 16.
type packed struct{ high, low uint32 }

func pack(v int64) packed { return packed{uint32(uint64(v) >> 32), uint32(v)} }

func (p packed) value() int64 { return int64(uint64(p.high)<<32 | uint64(p.low)) }

func newMarks[K comparable]() *marks[K] { return &marks[K]{seed: maphash.MakeSeed()} }

// some reports whether there is any: what nobody ever revoked costs one load.
func (m *marks[K]) some() bool { return m != nil && m.size.Load() != 0 }

func (m *marks[K]) has(key K, issued time.Time) bool {
	s := &m.shards[maphash.Comparable(m.seed, key)%markShards]
	s.mu.RLock()
	e, ok := s.byKey[key]
	s.mu.RUnlock()
	before := e.before.value()
	return ok && (before == always || issued.UnixNano() < before)
}

// put keeps the wider of two marks on one key.
func (m *marks[K]) put(key K, before int64, expires time.Time) {
	e := mark{before: pack(before), expires: never}
	if !expires.IsZero() {
		e.expires = uint32(min(max(expires.Add(slack).Unix(), 0), never))
	}
	s := &m.shards[maphash.Comparable(m.seed, key)%markShards]
	old, had := s.byKey[key] // nobody else writes
	if had {
		e.before, e.expires = pack(max(before, old.before.value())), max(e.expires, old.expires)
	}
	s.mu.Lock()
	if s.byKey == nil {
		s.byKey = map[K]mark{}
	}
	s.byKey[key] = e
	s.mu.Unlock()
	if !had {
		m.size.Add(1)
	}
	if e.expires != never && (!had || e.expires != old.expires) {
		m.await(key, int64(e.expires)/60)
	}
}

// await lists a key to be forgotten after a minute.
func (m *marks[K]) await(key K, minute int64) {
	if m.due == nil {
		m.due = map[int64][]K{}
	}
	if len(m.due) == 0 || minute < m.oldest {
		m.oldest = minute
	}
	m.due[minute] = append(m.due[minute], key)
}

// forget drops the marks that expired before the minute of now.
func (m *marks[K]) forget(now time.Time) {
	minute := now.Unix() / 60
	for len(m.due) > 0 && m.oldest < minute {
		if m.due[m.oldest] == nil && len(m.due) < int(minute-m.oldest) {
			m.skip(minute) // a long leap
			continue
		}
		for _, key := range m.due[m.oldest] {
			s := &m.shards[maphash.Comparable(m.seed, key)%markShards]
			if e, ok := s.byKey[key]; ok && int64(e.expires)/60 <= m.oldest {
				s.mu.Lock()
				delete(s.byKey, key)
				s.mu.Unlock()
				m.size.Add(-1)
			}
		}
		delete(m.due, m.oldest)
		m.oldest++
	}
}

// skip moves oldest to the first minute that has entries, at most to limit.
func (m *marks[K]) skip(limit int64) {
	first := limit
	for minute := range m.due {
		first = min(first, minute)
	}
	m.oldest = first
}
