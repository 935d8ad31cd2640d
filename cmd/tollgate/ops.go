package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness knows what this process still waits for. A part that has not been
// added yet counts as missing, so that the start is not ready by accident.
type readiness struct {
	mu       sync.Mutex
	complete bool // every part is there
	over     bool // it was complete
	parts    []readyPart
	notes    []readyPart // told, and no condition
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

// note names something that readiness does not depend on, but who looks wants
// to know.
func (r *readiness) note(name string, state func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, readyPart{name, state})
}

// waiting adds a part that lacks err, until done is called with nil, or with
// what it lacks now.
func (r *readiness) waiting(name string, err error) (done func(error)) {
	var lacks atomic.Pointer[error]
	lacks.Store(&err)
	r.add(name, func() error { return *lacks.Load() })
	return func(err error) { lacks.Store(&err) }
}

// ending reports whether the process was ready once and is about to end.
func (r *readiness) ending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over && !r.complete
}

// remarks lists the notes that have something to say.
func (r *readiness) remarks() []string {
	r.mu.Lock()
	notes := slices.Clone(r.notes)
	r.mu.Unlock()
	var out []string
	for _, n := range notes {
		if err := n.ready(); err != nil {
			out = append(out, fmt.Sprintf("%s: %v", n.name, err))
		}
	}
	return out
}

// set says whether all parts are there: true at the end of the start, false
// when the process begins to stop.
func (r *readiness) set(complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complete = complete
	r.over = r.over || complete
}

// missing lists what keeps the process from being ready.
func (r *readiness) missing() []string {
	r.mu.Lock()
	parts, complete, over := slices.Clone(r.parts), r.complete, r.over
	r.mu.Unlock()
	var out []string
	for _, p := range parts {
		if err := p.ready(); err != nil {
			out = append(out, fmt.Sprintf("%s: %s", p.name, strings.TrimPrefix(err.Error(), p.name+": ")))
		}
	}
	switch {
	case !complete && over:
		out = append(out, "tollgate: stopping")
	case !complete && len(out) == 0:
		out = append(out, "tollgate: starting")
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
		lines := append([]string{"ready"}, ready.remarks()...)
		if missing := ready.missing(); len(missing) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			lines = append(append([]string{"not ready"}, missing...), lines[1:]...)
		}
		_, _ = w.Write([]byte(strings.Join(lines, "\n") + "\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}
