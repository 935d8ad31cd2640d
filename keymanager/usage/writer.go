package usage

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// AddStore is what a Writer writes to; store.Store has it all.
type AddStore interface {
	AddUsage(ctx context.Context, records []store.UsageRecord) error
}

// WriterOptions of NewWriter.
type WriterOptions struct {
	Store  AddStore
	Logger *slog.Logger
	Rand   io.Reader // names the writer among others; nil = crypto/rand
	// Queue is how many records wait for the database at most, of less than 1 KB
	// usually; what comes beyond is dropped. 0 = 20,000.
	Queue int
	// Batch is how many records go in one statement; 0 = 1000.
	Batch int
	// Every is how long a record waits for others; 0 = 500 ms.
	Every time.Duration
	// Timeout bounds one statement; 0 = 5 s.
	Timeout time.Duration
	// Retry is the first wait after the database was not available; it doubles up
	// to 16 times as long. 0 = 250 ms.
	Retry time.Duration
}

// Writer keeps records in a bounded queue and writes them in batches, one at a
// time: it never has more than one connection, and that with the patience of
// those that everybody else goes before.
type Writer struct {
	opts   WriterOptions
	queue  chan *store.UsageRecord
	source int64
	number int64
	failed bool // the last statement

	records *prometheus.CounterVec
	streams prometheus.Gauge
	queued  prometheus.GaugeFunc
}

// What becomes of a record, for the metric.
const (
	outcomeStored    = "stored"
	outcomeMalformed = "malformed" // an entry that is no record
	outcomeDropped   = "dropped"   // the database is too slow, or away
	outcomeRefused   = "refused"   // by the database
)

// NewWriter returns a Writer, which writes nothing before Run.
func NewWriter(o WriterOptions) (*Writer, error) {
	if o.Store == nil || o.Logger == nil {
		return nil, errors.New("usage: a Writer needs Store and Logger")
	}
	if o.Queue < 0 || o.Batch < 0 || o.Every < 0 || o.Timeout < 0 || o.Retry < 0 {
		return nil, errors.New("usage: a size or a time of the Writer is negative")
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	o.Queue = cmp.Or(o.Queue, 20_000)
	o.Batch = cmp.Or(o.Batch, 1000)
	o.Every = cmp.Or(o.Every, 500*time.Millisecond)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Retry = cmp.Or(o.Retry, 250*time.Millisecond)
	var source [8]byte
	if _, err := io.ReadFull(o.Rand, source[:]); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	w := &Writer{
		opts: o, queue: make(chan *store.UsageRecord, o.Queue), source: int64(binary.BigEndian.Uint64(source[:])),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_usage_records_total",
			Help: "Usage records of gateways: stored, dropped (the database is too slow or away), malformed, refused (by the database).",
		}, []string{"outcome"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tollgate_usage_streams", Help: "Open streams of usage records: one for each worker of each Envoy.",
		}),
	}
	w.queued = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tollgate_usage_records_queued", Help: "Usage records that wait for the database.",
	}, func() float64 { return float64(len(w.queue)) })
	for _, o := range []string{outcomeStored, outcomeMalformed, outcomeDropped, outcomeRefused} {
		w.records.WithLabelValues(o)
	}
	return w, nil
}

// Describe implements prometheus.Collector.
func (w *Writer) Describe(c chan<- *prometheus.Desc) {
	w.records.Describe(c)
	w.streams.Describe(c)
	w.queued.Describe(c)
}

// Collect implements prometheus.Collector.
func (w *Writer) Collect(c chan<- prometheus.Metric) {
	w.records.Collect(c)
	w.streams.Collect(c)
	w.queued.Collect(c)
}

func (w *Writer) count(outcome string, n int) { w.records.WithLabelValues(outcome).Add(float64(n)) }

// put takes a record, or drops it when the queue is full. It never waits.
func (w *Writer) put(r *store.UsageRecord) {
	select {
	case w.queue <- r:
	default:
		w.count(outcomeDropped, 1)
	}
}

// lastWords is how long the end of the process waits for what is queued.
const lastWords = 2 * time.Second

// Run writes until ctx ends, and then what is left, for a short while.
func (w *Writer) Run(ctx context.Context) error {
	for {
		batch := w.gather(ctx)
		select {
		case <-ctx.Done():
			w.finish(ctx, batch)
			return nil
		default:
			w.write(ctx, batch)
		}
	}
}

// gather waits for a record, and a moment for more.
func (w *Writer) gather(ctx context.Context) []store.UsageRecord {
	var batch []store.UsageRecord
	var full <-chan time.Time
	for len(batch) < w.opts.Batch {
		select {
		case r := <-w.queue:
			batch = w.add(batch, r)
			if full == nil {
				timer := time.NewTimer(w.opts.Every)
				defer timer.Stop()
				full = timer.C
			}
		case <-full:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// add numbers a record: with its number it can be written twice.
func (w *Writer) add(batch []store.UsageRecord, r *store.UsageRecord) []store.UsageRecord {
	w.number++
	r.Source, r.Number = w.source, w.number
	return append(batch, *r)
}

// maxStrange is how often a batch is tried that fails for another reason than
// that the database is away.
const maxStrange = 5

// write writes a batch, however long the database is away. Meanwhile the queue
// fills.
func (w *Writer) write(ctx context.Context, batch []store.UsageRecord) {
	wait, strange := w.opts.Retry, 0
	for {
		done, err := w.try(ctx, batch)
		if batch = batch[done:]; err == nil {
			return
		}
		if keymanager.KindOf(err) != keymanager.KindUnavailable && ctx.Err() == nil {
			strange++
		}
		if strange == maxStrange {
			w.count(outcomeRefused, len(batch))
			w.opts.Logger.ErrorContext(ctx, "usage records are dropped: the database does not take them", "records", len(batch), "error", err)
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			w.finish(ctx, batch)
			return
		case <-timer.C:
		}
		wait = min(2*wait, 16*w.opts.Retry)
	}
}

// try writes a batch, and returns how many of its records, from the first one
// on, are done with. What the database refuses is parted until the record
// stands alone that is to blame, which is dropped.
func (w *Writer) try(ctx context.Context, batch []store.UsageRecord) (done int, err error) {
	if len(batch) == 0 {
		return 0, nil
	}
	call, cancel := context.WithTimeout(store.Patient(ctx), w.opts.Timeout)
	err = w.opts.Store.AddUsage(call, batch)
	cancel()
	switch {
	case err == nil:
		w.count(outcomeStored, len(batch))
	case keymanager.KindOf(err) != keymanager.KindInvalid:
		w.note(err)
		return 0, err
	case len(batch) == 1:
		w.count(outcomeRefused, 1)
		w.opts.Logger.ErrorContext(ctx, "the database refuses a usage record, which is dropped", "request", batch[0].Request, "error", err)
	default:
		half := len(batch) / 2
		if done, err = w.try(ctx, batch[:half]); err != nil {
			return done, err
		}
		done, err = w.try(ctx, batch[half:])
		return half + done, err
	}
	w.note(nil)
	return len(batch), nil
}

// note writes a line when the database goes or comes back.
func (w *Writer) note(err error) {
	failed := err != nil
	switch {
	case failed == w.failed:
	case failed:
		w.opts.Logger.Warn("usage records cannot be stored; those for which there is no room are dropped", "error", err)
	default:
		w.opts.Logger.Info("usage records are stored again")
	}
	w.failed = failed
}

// finish writes what is left when the process ends, if it is quickly done.
func (w *Writer) finish(ctx context.Context, batch []store.UsageRecord) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for {
		for more := true; more && len(batch) < w.opts.Batch; {
			select {
			case r := <-w.queue:
				batch = w.add(batch, r)
			default:
				more = false
			}
		}
		if len(batch) == 0 {
			return
		}
		if done, err := w.try(ctx, batch); err != nil {
			w.count(outcomeDropped, len(batch)-done+len(w.queue))
			return
		}
		batch = nil
	}
}
