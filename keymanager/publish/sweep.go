package publish

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager/store"
)

// SweptStore is what a Sweeper removes from; store.Store has it all.
type SweptStore interface {
	DeleteExpiredTokens(ctx context.Context, t time.Time, limit int) (int, error)
	DatabaseTime(ctx context.Context) (time.Time, error)
}

// SweeperOptions of NewSweeper.
type SweeperOptions struct {
	Store  SweptStore
	Now    func() time.Time
	Logger *slog.Logger
	// Keep is how long an expired token is kept: until then it is told from one
	// that never was. 0 = a day.
	Keep time.Duration
	// Every is how often it is looked whether there is something; 0 = a minute.
	Every time.Duration
	// Batch is how many tokens go in one statement; 0 = 1000.
	Batch int
	// Rest is the time between two batches, which bounds what sweeping costs
	// others; 0 = 100 ms, which with the default batch is at most 10,000 tokens
	// a second.
	Rest time.Duration
}

// Sweeper removes expired tokens, a batch at a time. Any number of them can
// work on one database: each passes over what another removes just now. It
// does nothing while the clocks of this process and of the database are more
// than a minute apart: one of them would take live tokens for expired ones.
type Sweeper struct {
	opts    SweeperOptions
	removed prometheus.Counter
	skew    prometheus.Gauge
}

// NewSweeper returns a Sweeper, which does nothing before Run.
func NewSweeper(o SweeperOptions) (*Sweeper, error) {
	if o.Store == nil || o.Now == nil || o.Logger == nil {
		return nil, errors.New("publish: a Sweeper needs Store, Now and Logger")
	}
	if o.Keep < 0 || o.Every < 0 || o.Batch < 0 || o.Rest < 0 {
		return nil, errors.New("publish: an interval or a size of the Sweeper is negative")
	}
	o.Keep = cmp.Or(o.Keep, 24*time.Hour)
	o.Every = cmp.Or(o.Every, time.Minute)
	o.Batch = cmp.Or(o.Batch, 1000)
	o.Rest = cmp.Or(o.Rest, 100*time.Millisecond)
	return &Sweeper{
		opts: o,
		removed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tollgate_keymanager_expired_tokens_removed_total", Help: "Expired tokens that were removed from the database.",
		}),
		skew: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tollgate_keymanager_database_clock_skew_seconds", Help: "How far the clock of the database is ahead of this process's.",
		}),
	}, nil
}

// Describe implements prometheus.Collector.
func (s *Sweeper) Describe(c chan<- *prometheus.Desc) { s.removed.Describe(c); s.skew.Describe(c) }

// Collect implements prometheus.Collector.
func (s *Sweeper) Collect(c chan<- prometheus.Metric) { s.removed.Collect(c); s.skew.Collect(c) }

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	store.CleanUp(ctx, s.opts.Every, s.opts.Logger, "expired tokens", func(ctx context.Context) error {
		_, err := s.Sweep(ctx)
		return err
	})
	return nil
}

// Sweep removes all that is due, and returns how many tokens that were.
func (s *Sweeper) Sweep(ctx context.Context) (int, error) {
	if err := s.compareClocks(ctx); err != nil {
		return 0, err
	}
	return store.InBatches(ctx, s.opts.Batch, s.opts.Rest, func(limit int) (int, error) {
		n, err := s.opts.Store.DeleteExpiredTokens(ctx, s.opts.Now().Add(-s.opts.Keep), limit)
		s.removed.Add(float64(n))
		return n, err
	})
}

func (s *Sweeper) compareClocks(ctx context.Context) error {
	d, err := skew(ctx, s.opts.Store, s.opts.Now)
	if err != nil {
		return err
	}
	s.skew.Set(d.Seconds())
	if d.Abs() > skewStop {
		return tooFarApart(d)
	}
	if d.Abs() > skewAlarm {
		s.opts.Logger.Warn("the clocks of this machine and of the database differ", "database_ahead", d)
	}
	return nil
}
