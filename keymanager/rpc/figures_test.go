package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

func TestResultOf(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want result
	}{
		{t.Context(), nil, resultOK},
		{gone, nil, resultOK}, // it was answered
		{t.Context(), errChooseAgain, resultOK},
		{gone, errDraining, resultOK},
		{t.Context(), errSlow, resultUnavailable},
		{t.Context(), errInternal, resultError},
		{t.Context(), errors.New("a bug"), resultError},
		{t.Context(), keymanager.Errorf(keymanager.KindForbidden, "no right"), resultRefused},
		{t.Context(), notValid(errors.New("no kind")), resultInvalid},
		{t.Context(), keymanager.Errorf(keymanager.KindUnavailable, "no database"), resultUnavailable},
		{late, keymanager.Errorf(keymanager.KindUnavailable, "no database"), resultLate},
		{gone, keymanager.Errorf(keymanager.KindUnavailable, "no database"), resultLeft},
		{t.Context(), fmt.Errorf("a query: %w", context.DeadlineExceeded), resultLate},
		{t.Context(), context.Canceled, resultLeft},
	} {
		if got := resultOf(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%v, %v: %s, want %s", tt.ctx.Err(), tt.err, resultNames[got], resultNames[tt.want])
		}
	}
}

// Every method has its figures, a call is counted once, and a stream is one
// while it is open.
func TestFigures(t *testing.T) {
	s := &Server{figures: newFigures()}
	for _, methods := range rights {
		for _, m := range methods {
			if s.figures.of[m] == nil {
				t.Errorf("%s is not counted", m)
			}
		}
	}
	_ = s.figures.of[validateMethod].count(t.Context(), func() error { return errInternal })
	_ = s.figures.of[watchMethod].count(t.Context(), func() error {
		if diff := cmp.Diff(map[string]float64{"requests Validate error": 1, "seconds Validate": 1, "streams Watch": 1}, gathered(t, s)); diff != "" {
			t.Errorf("while a stream is open (-want +got):\n%s", diff)
		}
		return errChooseAgain
	})
	if diff := cmp.Diff(map[string]float64{"requests Validate error": 1, "seconds Validate": 1, "requests Watch ok": 1}, gathered(t, s)); diff != "" {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
}

// gathered is every figure that is not 0.
func gathered(t *testing.T, s *Server) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	short := map[string]string{
		"tollgate_keymanager_requests_total": "requests", "tollgate_keymanager_request_seconds": "seconds", "tollgate_keymanager_streams": "streams",
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := short[family.GetName()]
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()); v != 0 {
				out[name] = v
			}
		}
	}
	return out
}
