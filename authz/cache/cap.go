package cache

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// Defaults of CapOptions.
const (
	DefaultCalls = 64
	DefaultQueue = 256
	DefaultWait  = 50 * time.Millisecond
)

// CapOptions of NewCap. Next and Now are required.
type CapOptions struct {
	Next  keymanager.Validator
	Now   func() time.Time
	Calls int           // under way at most; 0 = DefaultCalls
	Wait  time.Duration // for a turn at most; 0 = DefaultWait
	Queue int           // who wait for a turn at most; 0 = DefaultQueue
}

// Cap bounds the calls of the key manager under way. Who gets no turn in time
// is told so at once: a key manager that has to catch up is not helped by a
// queue. It is a keymanager.Validator and a prometheus.Collector.
type Cap struct {
	next  keymanager.Validator
	now   func() time.Time
	wait  time.Duration
	turns chan struct{}
	queue chan struct{}

	calls   *prometheus.CounterVec
	seconds prometheus.Histogram
}

// ErrBusy is in the chain of the error of a call that got no turn.
var ErrBusy = errors.New("too many calls of the key manager under way")

// NewCap returns a Cap before o.Next.
func NewCap(o CapOptions) (*Cap, error) {
	if o.Next == nil || o.Now == nil || o.Calls < 0 || o.Wait < 0 || o.Queue < 0 {
		return nil, errors.New("cache: a Cap needs Next and Now, and no negative number")
	}
	return &Cap{
		next:  o.Next,
		now:   o.Now,
		wait:  cmp.Or(o.Wait, DefaultWait),
		turns: make(chan struct{}, cmp.Or(o.Calls, DefaultCalls)),
		queue: make(chan struct{}, cmp.Or(o.Queue, DefaultQueue)),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_authz_keymanager_calls_total",
			Help: "Calls of the key manager, by result (ok, error, busy).",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tollgate_authz_keymanager_seconds",
			Help:    "Duration of the calls of the key manager, without the wait for a turn.",
			Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5},
		}),
	}, nil
}

// Validate implements keymanager.Validator.
func (c *Cap) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	ctx, cancel := early(ctx)
	defer cancel()
	if err := c.take(ctx); err != nil {
		c.calls.WithLabelValues("busy").Inc()
		return nil, err
	}
	defer func() { <-c.turns }()
	result, begun := "error", c.now() // also of a panic
	defer func() {
		c.seconds.Observe(c.now().Sub(begun).Seconds())
		c.calls.WithLabelValues(result).Inc()
	}()
	v, err := c.next.Validate(ctx, q)
	if err == nil {
		result = "ok"
	}
	return v, err
}

// take waits for a turn.
func (c *Cap) take(ctx context.Context) error {
	select {
	case c.turns <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.queue <- struct{}{}:
		defer func() { <-c.queue }()
	default:
		return unavailable("too many wait for a turn", ErrBusy)
	}
	timer := time.NewTimer(c.wait)
	defer timer.Stop()
	select {
	case c.turns <- struct{}{}:
		return nil
	case <-timer.C:
		return unavailable("no turn in time", ErrBusy)
	case <-ctx.Done():
		return unavailable("no turn in time", ctx.Err())
	}
}

// Describe implements prometheus.Collector.
func (c *Cap) Describe(ch chan<- *prometheus.Desc) {
	c.calls.Describe(ch)
	c.seconds.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Cap) Collect(ch chan<- prometheus.Metric) {
	c.calls.Collect(ch)
	c.seconds.Collect(ch)
}
