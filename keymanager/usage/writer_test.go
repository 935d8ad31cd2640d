package usage

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// table is a database of one table, which can be away, hang or refuse.
type table struct {
	mu      sync.Mutex
	err     error
	hang    bool
	poison  string // a request id that it refuses
	records []store.UsageRecord
	calls   int
	urgency store.Urgency
}

func (d *table) set(change func(*table)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *table) AddUsage(ctx context.Context, records []store.UsageRecord) error {
	d.mu.Lock()
	d.calls++
	d.urgency = store.UrgencyOf(ctx)
	hang, err := d.hang, d.err
	d.mu.Unlock()
	if hang {
		<-ctx.Done()
		return &keymanager.Error{Kind: keymanager.KindUnavailable, Err: ctx.Err()}
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range records {
		if d.poison != "" && records[i].Request == d.poison {
			return keymanager.Errorf(keymanager.KindInvalid, "poison")
		}
	}
	d.records = append(d.records, records...)
	return nil
}

func (d *table) stored() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.records)
}

// rig is a running Writer.
type rig struct {
	t   *testing.T
	db  *table
	w   *Writer
	end func()
}

func newRig(t *testing.T, o WriterOptions) *rig {
	t.Helper()
	r := &rig{t: t, db: &table{}}
	o.Store, o.Logger, o.Rand = r.db, slog.New(slog.DiscardHandler), bytes.NewReader([]byte("12345678"))
	if o.Every == 0 {
		o.Every = time.Millisecond
	}
	if o.Retry == 0 {
		o.Retry = time.Millisecond
	}
	var err error
	if r.w, err = NewWriter(o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.w.Run(ctx) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(r.end)
}

func (r *rig) put(from, to int) {
	for i := from; i < to; i++ {
		r.w.put(&store.UsageRecord{Request: fmt.Sprint("r", i)})
	}
}

func (r *rig) outcome(o string) int { return counted(r.t, r.w.records.WithLabelValues(o)) }

func counted(t *testing.T, c prometheus.Counter) int {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return int(families[0].GetMetric()[0].GetCounter().GetValue())
}

func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within half a minute: %s", what)
		}
	}
}

func TestWriter(t *testing.T) {
	r := newRig(t, WriterOptions{Batch: 7})
	r.run()
	r.put(0, 50)
	r.wait("all are stored", func() bool { return r.db.stored() == 50 })
	r.end()
	if r.outcome(outcomeStored) != 50 || r.outcome(outcomeDropped) != 0 {
		t.Errorf("stored %d, dropped %d", r.outcome(outcomeStored), r.outcome(outcomeDropped))
	}
	if r.db.calls < 8 || r.db.urgency != store.UrgencyPatient {
		t.Errorf("%d statements, urgency %d", r.db.calls, r.db.urgency)
	}
	for i, rec := range r.db.records {
		if rec.Source == 0 || rec.Number != int64(i+1) {
			t.Errorf("record %d is %d/%d", i, rec.Source, rec.Number)
		}
	}
}

// A database that is away, or hangs, costs records beyond the queue, and
// nobody waits.
func TestWriterWithoutDatabase(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(*table)
	}{
		{"away", func(d *table) { d.err = keymanager.Errorf(keymanager.KindUnavailable, "away") }},
		{"hung", func(d *table) { d.hang = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, WriterOptions{Queue: 20, Batch: 10, Timeout: 5 * time.Millisecond})
			r.db.set(tt.fail)
			r.run()
			r.put(0, 10)
			r.wait("the first batch is tried", func() bool { r.db.mu.Lock(); defer r.db.mu.Unlock(); return r.db.calls > 1 })
			r.put(10, 1000)
			held := 1000 - r.outcome(outcomeDropped)
			if held > 30 || held < 20 {
				t.Errorf("%d of 1000 are held: want the queue and a batch at most", held)
			}
			r.db.set(func(d *table) { d.err, d.hang = nil, false })
			r.wait("what was held is stored", func() bool { return r.db.stored() == held })
			r.end()
			if got := r.outcome(outcomeStored) + r.outcome(outcomeDropped); got != 1000 {
				t.Errorf("%d of 1000 are counted", got)
			}
		})
	}
}

func TestWriterPoison(t *testing.T) {
	r := newRig(t, WriterOptions{Batch: 100, Every: 10 * time.Millisecond})
	r.db.poison = "r41"
	r.put(0, 100)
	r.run()
	r.wait("the others are stored", func() bool { return r.db.stored() == 99 })
	r.end()
	if r.outcome(outcomeRefused) != 1 || r.outcome(outcomeStored) != 99 {
		t.Errorf("refused %d, stored %d", r.outcome(outcomeRefused), r.outcome(outcomeStored))
	}
}

// A database that fails for a reason of its own does not hold up the records
// that come later for ever.
func TestWriterStrangeFailure(t *testing.T) {
	r := newRig(t, WriterOptions{Batch: 10})
	r.db.err = fmt.Errorf("strange")
	r.put(0, 10)
	r.run()
	r.wait("the batch is dropped", func() bool { return r.outcome(outcomeRefused) == 10 })
	r.db.set(func(d *table) { d.err = nil })
	r.put(10, 20)
	r.wait("the next one is stored", func() bool { return r.db.stored() == 10 })
}

// What is queued when the process ends is written, or counted.
func TestWriterEnds(t *testing.T) {
	for _, away := range []bool{false, true} {
		r := newRig(t, WriterOptions{Every: time.Hour})
		if away {
			r.db.err = keymanager.Errorf(keymanager.KindUnavailable, "away")
		}
		r.put(0, 2500)
		r.run()
		r.end()
		if stored, dropped := r.outcome(outcomeStored), r.outcome(outcomeDropped); stored+dropped != 2500 || away != (stored == 0) {
			t.Errorf("away %t: stored %d, dropped %d", away, stored, dropped)
		}
	}
}

func TestOptions(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, err := range map[string]error{
		"no store":      second(NewWriter(WriterOptions{Logger: log})),
		"no logger":     second(NewWriter(WriterOptions{Store: &table{}})),
		"queue below 0": second(NewWriter(WriterOptions{Store: &table{}, Logger: log, Queue: -1})),
		"no randomness": second(NewWriter(WriterOptions{Store: &table{}, Logger: log, Rand: bytes.NewReader(nil)})),
		"no writer":     second(NewReceiver(ReceiverOptions{Now: time.Now})),
		"no retention":  second(NewPruner(PrunerOptions{Store: &pruned{}, Logger: log, Now: time.Now})),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// pruned is a database with records to remove.
type pruned struct {
	now    time.Time
	left   int
	before time.Time
}

func (p *pruned) DatabaseTime(context.Context) (time.Time, error) { return p.now, nil }

func (p *pruned) DeleteUsage(_ context.Context, before time.Time, limit int) (int, error) {
	n := min(p.left, limit)
	p.left -= n
	p.before = before
	return n, nil
}

func TestPrune(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	db := &pruned{now: now.Add(time.Minute), left: 25}
	p, err := NewPruner(PrunerOptions{Store: db, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Retention: 24 * time.Hour, Batch: 10, Rest: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Prune(t.Context()); n != 25 || err != nil || counted(t, p.removed) != 25 {
		t.Errorf("%d removed, %v", n, err)
	}
	if want := db.now.Add(-24 * time.Hour); !db.before.Equal(want) {
		t.Errorf("removed before %s, want %s", db.before, want)
	}
	db.now, db.left = now.Add(2*time.Hour), 5
	if n, err := p.Prune(t.Context()); n != 0 || err == nil {
		t.Errorf("with clocks two hours apart %d were removed, %v", n, err)
	}
}
