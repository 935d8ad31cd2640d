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

// snapshots shares one read of everything between streams that start at about
// the same time, as all do when a key manager starts: the newer streams go on
// from its position in the log like the first. free is held while the store is
// read.
type snapshots[T any] struct {
	free  chan struct{}
	at    keymanager.Position
	all   []T
	taken time.Time
}

func newSnapshots[T any]() *snapshots[T] { return &snapshots[T]{free: make(chan struct{}, 1)} }

// expire lets go of a snapshot that is too old to be used.
func (s *snapshots[T]) expire(now time.Time) {
	select {
	case s.free <- struct{}{}:
		if s.old(now) {
			s.all, s.at = nil, keymanager.Position{}
		}
		<-s.free
	default: // in use
	}
}

func (s *snapshots[T]) old(now time.Time) bool {
	return now.Before(s.taken) || now.Sub(s.taken) > snapshotAge
}

// shared returns a snapshot that another stream has taken, or takes one. Its
// position is that of the feed before the store is read: what is read may be
// newer, then the log repeats it.
func shared[T any](ctx context.Context, s *snapshots[T], view func(keymanager.Position) (head keymanager.Position, held bool), now func() time.Time,
	read func(context.Context) ([]T, error)) (keymanager.Position, []T, error) {
	select {
	case s.free <- struct{}{}:
		defer func() { <-s.free }()
	case <-ctx.Done():
		return keymanager.Position{}, nil, ctx.Err()
	}
	taken := now()
	if _, ok := view(s.at); s.all != nil && !s.old(taken) && ok {
		return s.at, s.all, nil
	}
	at, _ := view(keymanager.Position{})
	all, err := read(ctx)
	if err != nil {
		return at, nil, err
	}
	s.at, s.all, s.taken = at, all, taken
	return at, all, nil
}

// catalogSnapshot returns all of the catalog.
func (s *Service) catalogSnapshot(ctx context.Context) (keymanager.Position, []keymanager.Change, error) {
	return shared(ctx, s.catalog, s.changes.holds, s.opts.Now, func(ctx context.Context) ([]keymanager.Change, error) {
		all := []keymanager.Change{}
		err := s.opts.Store.AllTiers(ctx, func(t *keymanager.Tier) error {
			all = append(all, keymanager.Change{Tier: t})
			return nil
		})
		if err != nil {
			return nil, err
		}
		err = s.opts.Store.AllAPIs(ctx, func(a *keymanager.API) error {
			all = append(all, keymanager.Change{API: a})
			return nil
		})
		return all, err
	})
}

// deadSnapshot returns what is refused.
func (s *Service) deadSnapshot(ctx context.Context) (keymanager.Position, []store.LogEvent, error) {
	return shared(ctx, s.dead, s.events.holds, s.opts.Now, func(ctx context.Context) ([]store.LogEvent, error) {
		dead, err := s.opts.Store.LiveDead(ctx, s.opts.Now())
		all := make([]store.LogEvent, len(dead))
		for i := range dead {
			all[i] = store.LogEvent{Dead: &dead[i]}
		}
		return all, err
	})
}
