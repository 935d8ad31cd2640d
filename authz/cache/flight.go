package cache

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// Defaults of FlightOptions.
const (
	DefaultTimeout = 400 * time.Millisecond
	DefaultCallers = 2048
)

// Margin is how long before its caller's deadline a wait ends, so that there is
// time to answer.
const Margin = 20 * time.Millisecond

// FlightOptions of NewFlight. Next and Logger are required.
type FlightOptions struct {
	Next    keymanager.Validator
	Timeout time.Duration // of the shared call; 0 = DefaultTimeout
	// Callers who wait at most, over all queries; 0 = DefaultCallers. Whoever
	// comes then is told at once that it is too much: while the key manager is
	// slow, misses must not fill the process.
	Callers int
	Logger  *slog.Logger
}

// Flight makes one call of all calls about one query at the same time. The call
// runs on its own context: no caller's deadline ends it for the others, and
// callers leave at their own deadlines. It is a keymanager.Validator and a
// prometheus.Collector.
type Flight struct {
	next    keymanager.Validator
	timeout time.Duration
	callers int64
	log     *slog.Logger
	parts   [shards]flightPart

	waiting                        atomic.Int64
	started, joined, left, refused atomic.Uint64
}

type flightPart struct {
	mu    sync.Mutex
	calls map[Key]*call
}

// call is one call under way. verdict and err are set before done is closed.
type call struct {
	since   keymanager.Position // how fresh it was asked to be
	done    chan struct{}
	verdict *keymanager.Verdict
	err     error
}

// NewFlight returns a Flight before o.Next.
func NewFlight(o FlightOptions) (*Flight, error) {
	if o.Next == nil || o.Logger == nil || o.Timeout < 0 || o.Callers < 0 {
		return nil, errors.New("cache: a Flight needs Next and Logger, and no negative number")
	}
	f := &Flight{next: o.Next, timeout: cmp.Or(o.Timeout, DefaultTimeout), callers: int64(cmp.Or(o.Callers, DefaultCallers)), log: o.Logger}
	for i := range f.parts {
		f.parts[i].calls = map[Key]*call{}
	}
	return f, nil
}

// Validate implements keymanager.Validator.
func (f *Flight) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	defer f.waiting.Add(-1)
	if f.waiting.Add(1) > f.callers {
		f.refused.Add(1)
		return nil, unavailable("too many wait for an answer", ErrBusy)
	}
	ctx, cancel := early(ctx)
	defer cancel()
	c := f.join(q) //nolint:contextcheck // the call must outlive its first caller
	select {
	case <-c.done:
		return c.verdict, c.err
	case <-ctx.Done():
		f.left.Add(1)
		return nil, unavailable("no answer in time", ctx.Err())
	}
}

// join finds the call for q, or starts one. A call that was asked for older
// facts than q wants goes on for those who wait for it.
func (f *Flight) join(q keymanager.Query) *call {
	key := KeyOf(q)
	p := &f.parts[key.shard(shards)]
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.calls[key]; c != nil && (q.Since == (keymanager.Position{}) || c.since.Reached(q.Since)) {
		f.joined.Add(1)
		return c
	}
	c := &call{since: q.Since, done: make(chan struct{}), err: errPanicked}
	p.calls[key] = c
	f.started.Add(1)
	go f.run(p, key, c, q)
	return c
}

func (f *Flight) run(p *flightPart, key Key, c *call, q keymanager.Query) {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	defer func() {
		if recover() != nil { // its value may hold a credential
			c.verdict, c.err = nil, errPanicked
			f.log.Error("asking the key manager panicked", "stack", string(debug.Stack()))
		}
		p.mu.Lock()
		if p.calls[key] == c {
			delete(p.calls, key)
		}
		p.mu.Unlock()
		close(c.done)
	}()
	c.verdict, c.err = f.next.Validate(ctx, q)
}

var errPanicked = errors.New("cache: asking the key manager panicked")

// early returns a context that ends Margin before ctx does.
func early(ctx context.Context) (context.Context, context.CancelFunc) {
	if at, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, at.Add(-Margin))
	}
	return ctx, func() {}
}

func unavailable(detail string, cause error) error {
	return &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: detail, Err: cause}
}

var flightDesc = prometheus.NewDesc("tollgate_authz_flight_total",
	"Misses: calls started, calls joined, callers who left before the answer, and callers refused because too many waited.", []string{"event"}, nil)

// Describe implements prometheus.Collector.
func (f *Flight) Describe(ch chan<- *prometheus.Desc) { ch <- flightDesc }

// Collect implements prometheus.Collector.
func (f *Flight) Collect(ch chan<- prometheus.Metric) {
	for event, n := range map[string]*atomic.Uint64{"started": &f.started, "joined": &f.joined, "left": &f.left, "refused": &f.refused} {
		ch <- prometheus.MustNewConstMetric(flightDesc, prometheus.CounterValue, float64(n.Load()), event)
	}
}
