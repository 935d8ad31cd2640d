package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// result is how a call ended, for the metric.
type result uint8

const (
	resultOK          result = iota // answered; a stream: its time was over
	resultRefused                   // the caller may not
	resultInvalid                   // a request that cannot be answered
	resultUnavailable               // no database, a stream that nobody takes from
	resultLate                      // its deadline passed
	resultLeft                      // the caller went; of streams the usual end
	resultError                     // ours
	results
)

var resultNames = [results]string{"ok", "refused", "invalid", "unavailable", "late", "left", "error"}

// resultOf says how a call ended that returned err.
func resultOf(ctx context.Context, err error) result {
	switch {
	case err == nil, errors.Is(err, errChooseAgain), errors.Is(err, errDraining):
		return resultOK
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return resultLate
	case ctx.Err() != nil, errors.Is(err, context.Canceled):
		return resultLeft
	}
	switch keymanager.KindOf(err) {
	case keymanager.KindForbidden:
		return resultRefused
	case keymanager.KindInvalid, keymanager.KindNotFound, keymanager.KindConflict, keymanager.KindPrecondition:
		return resultInvalid
	case keymanager.KindUnavailable:
		return resultUnavailable
	case keymanager.KindInternal:
	}
	return resultError
}

// figures are what a Server counts.
type figures struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  *prometheus.GaugeVec
	of       map[method]*figure
}

// figure is one method's part of them, looked up once: Validate takes tens of
// microseconds.
type figure struct {
	ended   [results]prometheus.Counter
	seconds prometheus.Observer // nil: of a stream, which lasts
	open    prometheus.Gauge    // nil: of a call
}

func newFigures() *figures {
	f := &figures{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_keymanager_requests_total",
			Help: "Calls of authz and xds that have ended, by method and result (ok, refused, invalid, unavailable, late, left, error).",
		}, []string{"method", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tollgate_keymanager_request_seconds",
			Help:    "Duration of the calls of authz and xds that are not streams.",
			Buckets: []float64{.00005, .0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5},
		}, []string{"method"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tollgate_keymanager_streams",
			Help: "Open streams of authz and xds: Watch tells of what is published, Follow of what is revoked.",
		}, []string{"method"}),
		of: map[method]*figure{},
	}
	for _, m := range []method{validateMethod, watchMethod, followMethod, reportMethod, healthMethod} {
		one := &figure{}
		for i, name := range resultNames {
			one.ended[i] = f.requests.WithLabelValues(string(m), name)
		}
		switch m {
		case watchMethod, followMethod:
			one.open = f.streams.WithLabelValues(string(m))
		case validateMethod, reportMethod:
			one.seconds = f.seconds.WithLabelValues(string(m))
		case healthMethod: // both
		}
		f.of[m] = one
	}
	return f
}

// count runs one call and counts it.
func (f *figure) count(ctx context.Context, call func() error) error {
	if f.open != nil {
		f.open.Inc()
		defer f.open.Dec()
	}
	begun := time.Now()
	err := call()
	if f.seconds != nil {
		f.seconds.Observe(time.Since(begun).Seconds())
	}
	f.ended[resultOf(ctx, err)].Inc()
	return err
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(c chan<- *prometheus.Desc) {
	s.figures.requests.Describe(c)
	s.figures.seconds.Describe(c)
	s.figures.streams.Describe(c)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(c chan<- prometheus.Metric) {
	s.figures.requests.Collect(c)
	s.figures.seconds.Collect(c)
	s.figures.streams.Collect(c)
}
