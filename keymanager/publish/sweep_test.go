package publish_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
	"tollgate/keymanager/publish"
)

// heap is tokens that have expired, by the clock of a database.
type heap struct {
	mu      sync.Mutex
	expired int
	clock   time.Time
	before  time.Time // what was asked for
	fail    error
}

func (h *heap) DatabaseTime(context.Context) (time.Time, error) { return h.clock, nil }

func (h *heap) DeleteExpiredTokens(_ context.Context, before time.Time, limit int) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(limit, h.expired)
	h.before = before
	h.expired -= n
	return n, h.fail
}

func TestSweep(t *testing.T) {
	now := time.Unix(1e9, 0)
	away := errors.New("away")
	for name, tc := range map[string]struct {
		ahead   time.Duration
		fail    error
		removed int
		logged  string
		failed  bool
	}{
		"all":                   {removed: 25},
		"clocks a little apart": {ahead: -30 * time.Second, removed: 25, logged: "clocks"},
		"database a day ahead":  {ahead: 24 * time.Hour, failed: true},
		"database behind":       {ahead: -61 * time.Second, failed: true},
		"no database":           {fail: away, removed: 10, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			h := &heap{expired: 25, clock: now.Add(tc.ahead), fail: tc.fail}
			s, err := publish.NewSweeper(publish.SweeperOptions{Store: h, Now: func() time.Time { return now },
				Logger: slog.New(slog.NewTextHandler(&log, nil)), Keep: time.Hour, Batch: 10, Rest: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			n, err := s.Sweep(t.Context())
			if n != tc.removed || (err != nil) != tc.failed {
				t.Errorf("removed %d, %v; want %d, failed %t", n, err, tc.removed, tc.failed)
			}
			if tc.ahead != 0 && tc.failed && keymanager.KindOf(err) != keymanager.KindUnavailable {
				t.Errorf("refused with %v", err)
			}
			if n > 0 && !h.before.Equal(now.Add(-time.Hour)) {
				t.Errorf("asked for those before %v", h.before)
			}
			if !strings.Contains(log.String(), tc.logged) {
				t.Errorf("the log says %q", &log)
			}
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(s)
			metrics, err := registry.Gather()
			if err != nil || len(metrics) != 2 {
				t.Fatal(len(metrics), err)
			}
			skew, swept := metrics[0].Metric[0].GetGauge().GetValue(), metrics[1].Metric[0].GetCounter().GetValue()
			if int(swept) != tc.removed || skew != tc.ahead.Seconds() {
				t.Errorf("metrics say %v removed, %v ahead", swept, skew)
			}
		})
	}
}

// Run sweeps again and again, and says once that it cannot.
func TestSweeperRuns(t *testing.T) {
	var mu sync.Mutex
	var text bytes.Buffer
	h := &heap{expired: 100, clock: time.Now().Add(time.Hour)}
	s, err := publish.NewSweeper(publish.SweeperOptions{Store: h, Now: time.Now, Every: time.Millisecond, Rest: time.Millisecond, Batch: 10,
		Logger: slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); defer mu.Unlock(); text.Write(p) }), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	eventually(t, "it says that it cannot", func() bool { mu.Lock(); defer mu.Unlock(); return text.Len() > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := strings.Count(text.String(), "not removed"); n != 1 || h.expired != 100 {
		t.Errorf("%d lines, %d tokens left; want 1 and 100:\n%s", n, h.expired, &text)
	}
}
