package authz

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"tollgate/authz/apis"
	"tollgate/keymanager"
)

// staleAfter is how long a stream may be silent before contact counts as lost
// and the phase is STALE: heartbeats come every second.
const staleAfter = 3 * time.Second

// contact is when the key manager was last heard of, and what else it told.
type contact struct {
	started              time.Time
	catalog, revocations hearing
	log                  past // by the revocations
	// theirs is what the key manager's clock showed at started, in Unix
	// nanoseconds; 0 = it has not told yet.
	theirs atomic.Int64
	head   atomic.Uint64 // the newest event that a verdict told of
}

// since returns the time since the start. A step of the system's clock does not
// show in it.
func (c *contact) since(now time.Time) time.Duration { return now.Sub(c.started) }

// clock returns the time as it has passed since the start: a step of the system's
// clock does not show in it.
func (c *contact) clock(now time.Time) time.Time { return c.started.Add(c.since(now)) }

// silence returns how long ago both streams were known to be complete.
func (c *contact) silence(now time.Time) time.Duration {
	return c.since(now) - time.Duration(min(c.catalog.complete.Load(), c.revocations.complete.Load()))
}

// sees notes the head of the log that a verdict was read at. One of another
// epoch than what is known here has numbers that compare with nothing.
func (c *contact) sees(head, known keymanager.Position) {
	if head.Epoch != known.Epoch {
		return
	}
	for have := c.head.Load(); head.Seq > have && !c.head.CompareAndSwap(have, head.Seq); have = c.head.Load() {
	}
}

// phase says how far authz can be trusted at now, by the max_stale of the
// deployment.
func (s *Server) phase(now time.Time) keymanager.GatewayPhase {
	if !s.apis.Loaded() || !s.revoked.Loaded() {
		return keymanager.PhaseSyncing
	}
	switch silence := s.contact.silence(now); {
	case silence > s.limit(nil):
		return keymanager.PhaseBlind
	case silence > staleAfter:
		return keymanager.PhaseStale
	default:
		return keymanager.PhaseLive
	}
}

// limit returns how long an API is decided from what is known here without a
// word from the key manager; nil is one that has no limit of its own. Contact
// does not count as lost before staleAfter.
func (s *Server) limit(api *apis.API) time.Duration {
	if api != nil && api.OwnMaxStale() {
		return max(api.MaxStale, staleAfter)
	}
	return max(s.maxStale, staleAfter)
}

// trust is what a request may be decided from. The zero value is nothing.
type trust uint8

const (
	trustNothing trust = iota // 503
	trustAnswers              // the catalog, and what the key manager says just now
	trustMemory               // the caches too
)

// trusted says what the requests of an API may be decided from at now. An API
// whose own max_stale has passed is asked about at the key manager as long as
// the catalog may be used; past the longer of both nothing is decided.
func (s *Server) trusted(api *apis.API, now time.Time) trust {
	silence := s.contact.silence(now)
	switch {
	case silence <= staleAfter, silence <= s.limit(api):
		return trustMemory
	case silence <= s.limit(nil):
		return trustAnswers
	default:
		return trustNothing
	}
}

// Ready returns what is missing for authz to decide, nil if nothing is.
func (s *Server) Ready() error {
	var missing []error
	if !s.apis.Loaded() {
		missing = append(missing, errors.New("the catalog is not loaded"))
	}
	if !s.revoked.Loaded() {
		missing = append(missing, errors.New("the revocations are not loaded"))
	}
	now := s.now()
	if len(missing) == 0 && s.phase(now) == keymanager.PhaseBlind {
		missing = append(missing, fmt.Errorf("no word from the key manager for %s", s.contact.silence(now).Round(time.Second)))
	}
	if skew := s.contact.skew(now); skew.Abs() > maxSkew {
		missing = append(missing, fmt.Errorf("the key manager's clock differs by %s", skew.Round(time.Second)))
	}
	if err := errors.Join(missing...); err != nil {
		return fmt.Errorf("authz: %w", err)
	}
	return nil
}

// confirmed is the position up to which everything has taken effect here.
func (s *Server) confirmed() keymanager.Position {
	a, b := s.apis.Position(), s.revoked.Position()
	switch {
	case a.Epoch != b.Epoch || !s.apis.Loaded() || !s.revoked.Loaded():
		return keymanager.Position{}
	case a.Seq < b.Seq:
		return a
	default:
		return b
	}
}

// behind returns how many events are known to have happened that have not taken
// effect here.
func (s *Server) behind() uint64 {
	known := max(s.contact.head.Load(), s.apis.Position().Seq, s.revoked.Position().Seq)
	return known - min(known, s.confirmed().Seq)
}

// blindAPIs returns the number of APIs that are not decided at now.
func (s *Server) blindAPIs(now time.Time) (n int) {
	if s.contact.silence(now) <= staleAfter {
		return 0
	}
	s.apis.All(func(a *apis.API) bool {
		if s.trusted(a, now) == trustNothing {
			n++
		}
		return true
	})
	return n
}
