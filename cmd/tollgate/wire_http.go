package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager/admin"
	"tollgate/keymanager/oauth"
)

// httpFigures count what the key manager answers over HTTP. Nothing that a
// client wrote becomes a label.
type httpFigures struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	parts    map[string]*httpPart
}

// httpPart is one endpoint's part of them, looked up once.
type httpPart struct {
	ended   [len(httpClasses)]prometheus.Counter
	seconds prometheus.Observer
}

// httpClasses are the answers, by the first digit of their status less one.
var httpClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// Names of what is not one path.
const (
	partManagement = "management"
	partOther      = "other" // metadata, and what is not there
)

// httpParts are the endpoints by their path.
var httpParts = map[string]string{
	oauth.PathToken: "token", oauth.PathRevoke: "revoke", oauth.PathIntrospect: "introspect",
	admin.ValidationPath: "validate", explainPath: "explain",
}

func newHTTPFigures() *httpFigures {
	f := &httpFigures{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_keymanager_http_requests_total",
			Help: "Requests over HTTP, by endpoint (token, revoke, introspect, validate, explain, management, other) and class of the status.",
		}, []string{"endpoint", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tollgate_keymanager_http_request_seconds",
			Help:    "Duration of the requests over HTTP, by endpoint.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"endpoint"}),
		parts: map[string]*httpPart{},
	}
	add := func(name string) {
		p := &httpPart{seconds: f.seconds.WithLabelValues(name)}
		for i, class := range httpClasses {
			p.ended[i] = f.requests.WithLabelValues(name, class)
		}
		f.parts[name] = p
	}
	add(partManagement)
	add(partOther)
	for _, name := range httpParts {
		add(name)
	}
	return f
}

// part returns the figures of the endpoint at a path.
func (f *httpFigures) part(path string) *httpPart {
	name, known := httpParts[path]
	switch {
	case known:
	case strings.HasPrefix(path, admin.Prefix+"/"):
		name = partManagement
	default:
		name = partOther
	}
	return f.parts[name]
}

// count counts what next answers.
func (f *httpFigures) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		part, begun := f.part(r.URL.Path), time.Now()
		seen := &statusWriter{ResponseWriter: w}
		status := http.StatusInternalServerError // of a panic, which goes on
		defer func() {
			part.ended[min(max(status/100, 1), len(httpClasses))-1].Inc()
			part.seconds.Observe(time.Since(begun).Seconds())
		}()
		next.ServeHTTP(seen, r)
		if status = seen.status; status == 0 {
			status = http.StatusOK // nothing was written
		}
	})
}

// Describe implements prometheus.Collector.
func (f *httpFigures) Describe(c chan<- *prometheus.Desc) {
	f.requests.Describe(c)
	f.seconds.Describe(c)
}

// Collect implements prometheus.Collector.
func (f *httpFigures) Collect(c chan<- prometheus.Metric) {
	f.requests.Collect(c)
	f.seconds.Collect(c)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status < http.StatusOK { // 1xx come before the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status < http.StatusOK {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
