package authz

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cells is how many parts a counter has. Writers choose one at random, so that
// the cores do not pass one line of memory around on every request.
const cells = 8

func anyCell() int { return int(rand.Uint32() % cells) } //nolint:gosec // nothing secret

// counter counts without contention.
type counter struct {
	parts [cells]struct {
		n atomic.Uint64
		_ [56]byte
	}
}

func (c *counter) add() { c.parts[anyCell()].n.Add(1) }

func (c *counter) value() (n uint64) {
	for i := range c.parts {
		n += c.parts[i].n.Load()
	}
	return n
}

// bounds are the upper bounds of the buckets of a histogram; the last one has
// none.
var bounds = [...]time.Duration{
	2 * time.Microsecond, 5 * time.Microsecond, 10 * time.Microsecond, 20 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond,
}

// histogram counts durations by bucket, without contention.
type histogram struct {
	parts [cells]struct {
		buckets [len(bounds) + 1]atomic.Uint64
		sum     atomic.Int64
		_       [56]byte
	}
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	p := &h.parts[anyCell()]
	p.buckets[i].Add(1)
	p.sum.Add(int64(d))
}

func (h *histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	var count uint64
	var sum time.Duration
	cumulative := make(map[float64]uint64, len(bounds))
	for i := range len(bounds) + 1 {
		for j := range h.parts {
			count += h.parts[j].buckets[i].Load()
		}
		if i < len(bounds) {
			cumulative[bounds[i].Seconds()] = count
		}
	}
	for j := range h.parts {
		sum += time.Duration(h.parts[j].sum.Load())
	}
	return prometheus.MustNewConstHistogram(desc, count, sum.Seconds(), cumulative, labels...)
}
