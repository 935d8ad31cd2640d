package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness knows what this process still waits for. A part that has not been
// added yet counts as missing, so that the start is not ready by accident.
type readiness struct {
	mu       sync.Mutex
	complete bool // every part is there
	parts    []readyPart
}

type readyPart struct {
	name  string
	ready func() error
}

// add names a part; ready says what it lacks, or nil.
func (r *readiness) add(name string, ready func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = append(r.parts, readyPart{name, ready})
}

// set says whether all parts are there: true at the end of the start, false
// when the process begins to stop.
func (r *readiness) set(complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complete = complete
}

// missing lists what keeps the process from being ready.
func (r *readiness) missing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, p := range r.parts {
		if err := p.ready(); err != nil {
			out = append(out, fmt.Sprintf("%s: %v", p.name, err))
		}
	}
	if !r.complete {
		out = append(out, "tollgate: starting or stopping")
	}
	return out
}

// newOps returns the handler of the ops address: alive, ready, metrics. It
// tells nothing of anybody's data.
func newOps(ready *readiness, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if missing := ready.missing(); len(missing) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("not ready\n" + strings.Join(missing, "\n") + "\n"))
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}
