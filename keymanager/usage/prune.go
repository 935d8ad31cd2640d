package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager/store"
)

// PrunedStore is what a Pruner removes from; store.Store has it all.
type PrunedStore interface {
	DeleteUsage(ctx context.Context, t time.Time, limit int) (int, error)
	DatabaseTime(ctx context.Context) (time.Time, error)
}

// PrunerOptions of NewPruner.
type PrunerOptions struct {
	Store  PrunedStore
	Logger *slog.Logger
	// Now is only compared with the clock of the database, by which records are
	// old.
	Now func() time.Time
	// Retention is how long a record is kept; required.
	Retention time.Duration
	// Every is how often it is looked whether there is something; 0 = 10 min.
	Every time.Duration
	// Batch is how many records go in one statement; 0 = 1000.
	Batch int
	// Rest is the time between two batches; 0 = 50 ms, which with the default
	// batch is at most 20,000 records a second.
	Rest time.Duration
}

// maxSkew is how far the clocks may be apart: one of them is wrong beyond that,
// and records that are not old would go.
const maxSkew = time.Hour

// Pruner removes old records, a batch at a time. Any number of them can work on
// one database.
type Pruner struct {
	opts    PrunerOptions
	removed prometheus.Counter
}

// NewPruner returns a Pruner, which does nothing before Run.
func NewPruner(o PrunerOptions) (*Pruner, error) {
	if o.Store == nil || o.Logger == nil || o.Now == nil {
		return nil, errors.New("usage: a Pruner needs Store, Now and Logger")
	}
	if o.Retention <= 0 || o.Every < 0 || o.Batch < 0 || o.Rest < 0 {
		return nil, errors.New("usage: a Pruner needs a Retention, and no time or size may be negative")
	}
	o.Every = cmp.Or(o.Every, 10*time.Minute)
	o.Batch = cmp.Or(o.Batch, 1000)
	o.Rest = cmp.Or(o.Rest, 50*time.Millisecond)
	return &Pruner{opts: o, removed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tollgate_usage_records_removed_total", Help: "Usage records that were older than the retention and were removed.",
	})}, nil
}

// Describe implements prometheus.Collector.
func (p *Pruner) Describe(c chan<- *prometheus.Desc) { p.removed.Describe(c) }

// Collect implements prometheus.Collector.
func (p *Pruner) Collect(c chan<- prometheus.Metric) { p.removed.Collect(c) }

// Run prunes until ctx ends.
func (p *Pruner) Run(ctx context.Context) error {
	store.CleanUp(ctx, p.opts.Every, p.opts.Logger, "old usage records", func(ctx context.Context) error {
		_, err := p.Prune(ctx)
		return err
	})
	return nil
}

// Prune removes all that is due, and returns how many records that were.
func (p *Pruner) Prune(ctx context.Context) (int, error) {
	now, err := p.opts.Store.DatabaseTime(ctx)
	if err != nil {
		return 0, err
	}
	if d := now.Sub(p.opts.Now()); d.Abs() > maxSkew {
		return 0, fmt.Errorf("the clock of the database is %s ahead of this machine's (negative: behind): set the wrong one right", d.Round(time.Second))
	}
	return store.InBatches(ctx, p.opts.Batch, p.opts.Rest, func(limit int) (int, error) {
		n, err := p.opts.Store.DeleteUsage(ctx, now.Add(-p.opts.Retention), limit)
		p.removed.Add(float64(n))
		return n, err
	})
}
