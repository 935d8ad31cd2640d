package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// Store is what Service reads; store.Store has it all.
type Store interface {
	store.Log
	DatabaseTime(ctx context.Context) (time.Time, error)
	API(ctx context.Context, id keymanager.APIID) (*keymanager.API, error)
	AllAPIs(ctx context.Context, fn func(*keymanager.API) error) error
	Tier(ctx context.Context, org keymanager.OrganizationID, name keymanager.TierName) (*keymanager.Tier, error)
	AllTiers(ctx context.Context, fn func(*keymanager.Tier) error) error
}

// Options of New.
type Options struct {
	Store  Store
	Now    func() time.Time
	Logger *slog.Logger
	// Heartbeat is the interval of heartbeats; 0 = 1 s.
	Heartbeat time.Duration
	// Poll is how often the log is read when no wake came: the bound on the
	// delay if one is lost; 0 = 500 ms.
	Poll time.Duration
	// Keep is how many of the newest events are held in memory; 0 = 1024.
	Keep int
	// Retention is how many events the log keeps for receivers that were away;
	// 0 = 100000.
	Retention uint64
	// PruneEvery is how often older events are removed; 0 = one minute.
	PruneEvery time.Duration
}

// Service implements keymanager.Catalog and keymanager.Revocations over the log
// of a store. Streams wait until Run is running and end when it ends.
type Service struct {
	opts    Options
	events  *feed[store.LogEvent]
	changes *feed[keymanager.Change]
	catalog *snapshots[keymanager.Change]
	dead    *snapshots[store.LogEvent]
}

// New returns a Service, which does nothing before Run.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Now == nil || o.Logger == nil {
		return nil, errors.New("publish: Store, Now and Logger are required")
	}
	if o.Heartbeat < 0 || o.Poll < 0 || o.Keep < 0 || o.PruneEvery < 0 {
		return nil, errors.New("publish: an interval or a size is negative")
	}
	o.Heartbeat = cmp.Or(o.Heartbeat, time.Second)
	o.Poll = cmp.Or(o.Poll, 500*time.Millisecond)
	o.Keep = cmp.Or(o.Keep, 1024)
	o.Retention = cmp.Or(o.Retention, 100_000)
	o.PruneEvery = cmp.Or(o.PruneEvery, time.Minute)
	return &Service{
		opts:    o,
		events:  newFeed[store.LogEvent](o.Keep),
		changes: newFeed[keymanager.Change](o.Keep),
		catalog: newSnapshots[keymanager.Change](),
		dead:    newSnapshots[store.LogEvent](),
	}, nil
}

// Run reads the log, and prunes it, until ctx ends; then it ends all streams
// and returns nil. It may be called once.
func (s *Service) Run(ctx context.Context) error {
	defer s.events.close()
	defer s.changes.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.tail(ctx); return nil })
	g.Go(func() error { s.hydrate(ctx); return nil })
	g.Go(func() error { s.prune(ctx); return nil })
	return g.Wait()
}

// Watch implements keymanager.Catalog.
func (s *Service) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	apis := slices.Contains(kinds, keymanager.CatalogAPI)
	tiers := slices.Contains(kinds, keymanager.CatalogTier)
	return stream(ctx, from, source[keymanager.Change]{
		feed:     s.changes,
		head:     s.opts.Store.Head,
		read:     s.readChanges,
		snapshot: s.catalogSnapshot,
		wants: func(c keymanager.Change) bool {
			if c.API != nil || c.RemovedAPI != "" {
				return apis
			}
			return tiers
		},
		send: func(m keymanager.Mark, c keymanager.Change) error {
			c.Mark = m
			return fn(c)
		},
	})
}

// Follow implements keymanager.Revocations.
func (s *Service) Follow(ctx context.Context, from keymanager.Position, fn func(keymanager.Event) error) error {
	return stream(ctx, from, source[store.LogEvent]{
		feed:     s.events,
		head:     s.opts.Store.Head,
		read:     s.readEvents,
		snapshot: s.deadSnapshot,
		wants:    func(e store.LogEvent) bool { return e.Dead != nil || e.Stale != nil },
		send: func(m keymanager.Mark, e store.LogEvent) error {
			out := keymanager.Event{Mark: m, Dead: e.Dead, Stale: e.Stale}
			if m.Type == keymanager.Heartbeat {
				out.Now = s.opts.Now()
			}
			return fn(out)
		},
	})
}

// unavailable returns the error that ends a stream which could not be read.
func unavailable(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: fmt.Sprintf("publish: cannot read %s", what), Err: err}
}
