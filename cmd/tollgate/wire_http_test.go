package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counted are the requests by endpoint and status.
func counted(t *testing.T, f *httpFigures) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(f)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if c := m.GetCounter(); c != nil {
				out[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = c.GetValue()
			}
		}
	}
	return out
}

// Requests are counted by endpoint and class of the answer, whatever a client
// asks for, and the writer below can still be told of deadlines.
func TestHTTPFigures(t *testing.T) {
	answers := func(statuses ...int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, status := range statuses {
				w.WriteHeader(status)
			}
		}
	}
	for _, tt := range []struct {
		path, endpoint, status string
		answer                 http.HandlerFunc
	}{
		{"/oauth2/token", "token", "2xx", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) }},
		{"/oauth2/token", "token", "4xx", answers(401)},
		{"/oauth2/revoke", "revoke", "2xx", answers()},
		{"/oauth2/introspect", "introspect", "5xx", answers(503)},
		{"/api/validate", "validate", "2xx", answers(103, 200)},
		{"/api/v1/explain", "explain", "2xx", answers()},
		{"/api/v1/organizations/default/apis", "management", "3xx", answers(304)},
		{"/oauth2/token/x", "other", "4xx", answers(404)},
		{"/oauth2/token", "token", "5xx", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		f := newHTTPFigures()
		before := counted(t, f)
		func() {
			defer func() { _ = recover() }()
			f.count(tt.answer).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, tt.path, nil))
		}()
		after := counted(t, f)
		if n := after[tt.endpoint+" "+tt.status]; n != 1 {
			t.Errorf("%s: %v of %s %s", tt.path, n, tt.endpoint, tt.status)
		}
		if len(after) != len(before) {
			t.Errorf("%s: %d series, before %d", tt.path, len(after), len(before))
		}
	}

	s := httptest.NewServer(newHTTPFigures().count(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
	})))
	defer s.Close()
	res, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}
