package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// gather returns every sample by name and labels; of a histogram, its count.
func gather(t testing.TB, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	must(t, reg.Register(c))
	families, err := reg.Gather()
	must(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "tollgate_authz_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.grant(nil)
	before := len(gather(t, r.server))
	for _, c := range []call{
		{path: envoyPath + "/items", headers: withToken},
		{path: envoyPath + "/items", headers: withToken},
		{path: envoyPath + "/items"},
		{path: envoyPath + "/public"},
		{api: "-"},
		{method: "BREW", path: envoyPath + "/<script>", headers: []string{"authorization", "Bearer user-text"}},
	} {
		r.check(t, c)
	}
	p := r.km.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1}})
	r.settle(t, p)
	got := gather(t, r.server)
	for name, want := range map[string]float64{
		"decisions_total 200 allowed":               2,
		"decisions_total 200 anonymous":             1,
		"decisions_total 900902 missing_credential": 1,
		"decisions_total 900900 no_api_id":          1,
		"decisions_total 900906 method_refused":     1,
		"decisions_total 900901 revoked":            0,
		"check_seconds total":                       6,
		"check_seconds verdict":                     2,
		"check_seconds catalog":                     0,
		"catalog_skew_total ahead":                  0,
		"phase LIVE":                                1,
		"phase BLIND":                               0,
		"position revocations":                      float64(p.Seq),
		"position catalog":                          float64(p.Seq),
		"apis all":                                  1,
		"apis broken":                               0,
		"dead_entries token":                        1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %t), want %v", name, v, ok, want)
		}
	}
	if lag, ok := got["revocation_lag_seconds"]; !ok || lag < 0 || lag > 60 {
		t.Errorf("revocation lag is %v", lag)
	}
	if len(got) != before {
		t.Errorf("%d series before, %d after: labels are not bounded", before, len(got))
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{0, 2 * time.Microsecond, 3 * time.Microsecond, time.Second, time.Hour} {
		h.observe(d)
	}
	var m = gather(t, collectorOf(func() prometheus.Metric { return h.metric(secondsDesc, "total") }))
	if m["check_seconds total"] != 5 {
		t.Errorf("%v", m)
	}
	want := []uint64{2, 3}
	for i, n := range want {
		total := uint64(0)
		for j := range h.parts {
			for k := range i + 1 {
				total += h.parts[j].buckets[k].Load()
			}
		}
		if total != n {
			t.Errorf("up to %s: %d, want %d", bounds[i], total, n)
		}
	}
}

type collectorOf func() prometheus.Metric

func (f collectorOf) Describe(ch chan<- *prometheus.Desc) { ch <- f().Desc() }
func (f collectorOf) Collect(ch chan<- prometheus.Metric) { ch <- f() }

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns the lines so far, and empties the log.
func (l *lines) take(t testing.TB) (list []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		m := map[string]any{}
		must(t, json.Unmarshal([]byte(line), &m))
		list = append(list, m)
	}
	l.b.Reset()
	return list
}

func logged(t testing.TB, level slog.Level) (*rig, *lines) {
	log := new(lines)
	r := newRig(t, func(o *Options) {
		o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: level}))
	}).run(t)
	r.grant(nil)
	log.take(t)
	return r, log
}

func TestOneLineForEachDecision(t *testing.T) {
	const id = "7f5a1e02-9f4c-4b6e-8a6e-0f6d1d1e2c3b"
	r, log := logged(t, slog.LevelDebug)
	for _, tt := range []struct {
		c    call
		want map[string]any
	}{
		{call{path: envoyPath + "/items/7?secret=1", headers: append(withToken, "x-request-id", id, "x-envoy-external-address", "192.0.2.7")}, map[string]any{
			"level": "DEBUG", "msg": "allowed", "request_id": id, "code": "200", "reason": "allowed", "method": "GET", "api": "api-pets",
			"resource": "/items/{id}", "client": "192.0.2.7", "application": "app-1", "consumer_key": "consumer-1", "token": "01000000000000000000000000000000",
		}},
		{call{path: envoyPath + "/items/7", headers: []string{"authorization", "Bearer x", "x-envoy-external-address", "<garbage>"}}, map[string]any{
			"level": "INFO", "msg": "refused", "request_id": "", "code": "900901", "reason": "not_ours", "method": "GET", "api": "api-pets", "resource": "/items/{id}",
		}},
		{call{method: "B\x1bREW", path: "/x"}, map[string]any{
			"level": "INFO", "msg": "refused", "request_id": "", "code": "900906", "reason": "method_refused", "method": "other", "api": "api-pets",
		}},
		{call{api: "-", path: "/x"}, map[string]any{
			"level": "ERROR", "msg": "not decided: Envoy is not configured as it must be", "request_id": "", "code": "900900", "reason": "no_api_id", "method": "GET",
		}},
	} {
		r.check(t, tt.c)
		got := log.take(t)
		if len(got) != 1 {
			t.Fatalf("%d lines: %v", len(got), got)
		}
		if _, ok := got[0]["took_us"].(float64); !ok {
			t.Errorf("no duration: %v", got[0])
		}
		delete(got[0], "took_us")
		delete(got[0], "time")
		if d := cmp.Diff(tt.want, got[0]); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
}

func TestAllowedIsSilentAtInfo(t *testing.T) {
	r, log := logged(t, slog.LevelInfo)
	r.check(t, call{path: envoyPath + "/items", headers: withToken})
	if got := log.take(t); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestNothingSecretIsToldAgain: no credential in a log, an answer or a metric,
// whatever goes wrong with it.
func TestNothingSecretIsToldAgain(t *testing.T) {
	r, log := logged(t, slog.LevelDebug)
	const secret = "S3CR3T"
	calls := []call{}
	for _, value := range []string{goodToken + secret, goodKey + secret, secret, "tgcs_" + secret, secret + "," + secret, secret + " " + secret} {
		for _, path := range []string{"/items", "/items?apikey=" + value, "/items?access_token=" + value, "/public", "/nothing"} {
			calls = append(calls,
				call{path: envoyPath + path, headers: []string{"authorization", "Bearer " + value}},
				call{path: envoyPath + path, headers: []string{"authorization", "Basic " + value}},
				call{path: envoyPath + path, headers: []string{"apikey", value}},
				call{path: envoyPath + path, headers: []string{"apikey", value, "authorization", "Bearer " + value}},
				call{api: "-", path: envoyPath + path, headers: []string{"apikey", value}},
			)
		}
	}
	ask := func() {
		for _, c := range calls {
			if answer := r.check(t, c).String(); strings.Contains(answer, secret) {
				t.Errorf("%+v: the answer has it: %s", c, answer)
			}
		}
	}
	ask()
	e, err := r.server.Explain(t.Context(), Question{Method: "GET", Path: envoyPath + "/items", Credential: secret})
	if must(t, err); strings.Contains(fmt.Sprint(e), secret) {
		t.Errorf("the explanation has it: %+v", e)
	}
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { panic(secret) })
	ask()
	r.server.tags = panicTags{}
	ask()
	if text := fmt.Sprint(log.take(t)); strings.Contains(text, secret) {
		t.Error("the log has it")
	}
	for name := range gather(t, r.server) {
		if strings.Contains(name, secret) {
			t.Errorf("the metric %s has it", name)
		}
	}
	d := Decision{Credential: keymanager.Credential{Value: secret}}
	if text := fmt.Sprintf("%v %+v %#v", d, d, d.Credential); strings.Contains(text, secret) {
		t.Errorf("a printed decision has it: %s", text)
	}
}

// TestComplaintsAreFew: an outage does not flood the log with its cause.
func TestComplaintsAreFew(t *testing.T) {
	log := new(lines)
	r, c := clockRig(t, func(o *Options) {
		o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	r.run(t)
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return nil, errors.New("the cause")
	})
	log.take(t)
	for range 2 {
		for range 100 {
			r.check(t, call{path: envoyPath + "/items", headers: withToken})
		}
		if got := log.take(t); len(got) != 1 || got[0]["error"] != "the cause" {
			t.Errorf("%v, want one line with the cause", got)
		}
		c.advance(time.Second)
	}
}
