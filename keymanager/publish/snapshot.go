package publish

import (
	"context"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// snapshotAge is how long a snapshot of the catalog serves streams that start
// after it was read.
const snapshotAge = 5 * time.Second

// snapshots shares one read of the catalog between streams that start at about
// the same time, as all do when a key manager starts: the newer streams go on
// from its position in the log like the first. free is held while the store is
// read.
type snapshots struct {
	free  chan struct{}
	at    keymanager.Position
	all   []keymanager.Change
	taken time.Time
}

// expire lets go of a snapshot that is too old to be used.
func (s *snapshots) expire(now time.Time) {
	select {
	case s.free <- struct{}{}:
		if s.old(now) {
			s.all, s.at = nil, keymanager.Position{}
		}
		<-s.free
	default: // in use
	}
}

func (s *snapshots) old(now time.Time) bool {
	return now.Before(s.taken) || now.Sub(s.taken) > snapshotAge
}

// catalogSnapshot returns all of the catalog. Its position is that of the feed
// before the objects are read: they may be newer, then the log repeats them.
func (s *Service) catalogSnapshot(ctx context.Context) (keymanager.Position, []keymanager.Change, error) {
	select {
	case s.snapshots.free <- struct{}{}:
		defer func() { <-s.snapshots.free }()
	case <-ctx.Done():
		return keymanager.Position{}, nil, ctx.Err()
	}
	at, now := s.changes.view(keymanager.Position{}).head, s.opts.Now()
	if shared := &s.snapshots; shared.all != nil && !shared.old(now) && s.changes.view(shared.at).place == held {
		return shared.at, shared.all, nil
	}
	all := []keymanager.Change{}
	err := s.opts.Store.AllTiers(ctx, func(t *keymanager.Tier) error {
		all = append(all, keymanager.Change{Tier: t})
		return nil
	})
	if err != nil {
		return at, nil, err
	}
	err = s.opts.Store.AllAPIs(ctx, func(a *keymanager.API) error {
		all = append(all, keymanager.Change{API: a})
		return nil
	})
	if err != nil {
		return at, nil, err
	}
	s.snapshots.at, s.snapshots.all, s.snapshots.taken = at, all, now
	return at, all, nil
}

// deadSnapshot returns what is refused.
func (s *Service) deadSnapshot(ctx context.Context) (keymanager.Position, []store.LogEvent, error) {
	at := s.events.view(keymanager.Position{}).head
	dead, err := s.opts.Store.LiveDead(ctx, s.opts.Now())
	if err != nil {
		return at, nil, err
	}
	all := make([]store.LogEvent, len(dead))
	for i := range dead {
		all[i] = store.LogEvent{Dead: &dead[i]}
	}
	return at, all, nil
}
