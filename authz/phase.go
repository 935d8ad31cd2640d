package authz

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"tollgate/keymanager"
)

// staleAfter is how long a stream may be silent before the phase is STALE:
// heartbeats come every second.
const staleAfter = 3 * time.Second

// maxSkew is how far the key manager's clock may be from ours: expiry is
// decided here.
const maxSkew = time.Minute

// contact is when the key manager was last heard of on each stream: durations
// since started, which the process's own clock measures.
type contact struct {
	started     time.Time
	catalog     atomic.Int64
	revocations atomic.Int64
	skew        atomic.Int64 // its clock minus ours, at the last heartbeat
}

// silence returns how long ago both streams were known to be complete.
func (c *contact) silence(now time.Time) time.Duration {
	return now.Sub(c.started) - time.Duration(min(c.catalog.Load(), c.revocations.Load()))
}

// clock returns the time as it has passed since the start: a step of the system's
// clock does not show in it.
func (c *contact) clock(now time.Time) time.Time { return c.started.Add(now.Sub(c.started)) }

// phase says how far authz can be trusted at now.
func (s *Server) phase(now time.Time) keymanager.GatewayPhase {
	if !s.apis.Loaded() || !s.revoked.Loaded() {
		return keymanager.PhaseSyncing
	}
	switch silence := s.contact.silence(now); {
	case silence > s.maxStale:
		return keymanager.PhaseBlind
	case silence > staleAfter:
		return keymanager.PhaseStale
	default:
		return keymanager.PhaseLive
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
	if skew := time.Duration(s.contact.skew.Load()); skew.Abs() > maxSkew {
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
