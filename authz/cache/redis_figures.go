package cache

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// redisResult is how a look-up in Redis ended.
type redisResult uint8

const (
	resultHit      redisResult = iota // a live credential
	resultNegative                    // any other
	resultMiss
	resultOutdated // a verdict that has expired, or is older than the query wants
	resultDamaged
	resultTimeout
	resultError
	resultSkipped // the breaker is open
	results
)

var resultNames = [results]string{"hit", "negative", "miss", "outdated", "damaged", "timeout", "error", "skipped"}

// How a write to Redis ended.
const (
	writeDone = iota
	writeFailed
	writeDropped
	writeEnds
)

var writeNames = [writeEnds]string{"done", "failed", "dropped"}

type redisFigures struct {
	lookups [results]atomic.Uint64
	writes  [writeEnds]atomic.Uint64
	seconds prometheus.Histogram
}

func newRedisFigures() *redisFigures {
	return &redisFigures{seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "tollgate_redis_seconds",
		Help:    "Duration of the look-ups in Redis that were not skipped.",
		Buckets: []float64{.00005, .0001, .0002, .0005, .001, .002, .005, .01, .02, .03, .05, .1},
	})}
}

var (
	redisUpDesc = prometheus.NewDesc("tollgate_redis_up",
		"Whether Redis is used: 0 until it has answered once, and while it does not answer in time and the key manager is asked instead.", nil, nil)
	redisLookupsDesc = prometheus.NewDesc("tollgate_redis_lookups_total",
		"Look-ups of verdicts in Redis by result (hit, negative, miss, outdated, damaged, timeout, error, skipped).", []string{"result"}, nil)
	redisWritesDesc = prometheus.NewDesc("tollgate_redis_writes_total",
		"Verdicts written to Redis by result (done, failed, dropped: the queue was full or Redis is not used).", []string{"result"}, nil)
)

// Describe implements prometheus.Collector.
func (r *Redis) Describe(ch chan<- *prometheus.Desc) {
	ch <- redisUpDesc
	ch <- redisLookupsDesc
	ch <- redisWritesDesc
	r.figures.seconds.Describe(ch)
}

// Collect implements prometheus.Collector.
func (r *Redis) Collect(ch chan<- prometheus.Metric) {
	up := 0.0
	if r.breaker.isUp() {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(redisUpDesc, prometheus.GaugeValue, up)
	for i, name := range resultNames {
		ch <- prometheus.MustNewConstMetric(redisLookupsDesc, prometheus.CounterValue, float64(r.figures.lookups[i].Load()), name)
	}
	for i, name := range writeNames {
		ch <- prometheus.MustNewConstMetric(redisWritesDesc, prometheus.CounterValue, float64(r.figures.writes[i].Load()), name)
	}
	r.figures.seconds.Collect(ch)
}
