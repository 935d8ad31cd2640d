package authz

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/keymanager"
)

// lockedTags need a lock that something may hold for ever.
type lockedTags struct{ mu *sync.Mutex }

func (l lockedTags) Check(keymanager.CredentialKind, string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return false
}

// TestADeadlockEndsTheProcess: whoever runs the process is told, and Run waits
// for nothing, though Checks hang.
func TestADeadlockEndsTheProcess(t *testing.T) {
	var mu sync.Mutex
	var log lines
	told := make(chan struct{})
	r := newRig(t, func(o *Options) {
		o.Tags, o.Watchdog, o.OnHung = lockedTags{&mu}, 500*time.Millisecond, func() { close(told) }
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	ended := make(chan error, 1)
	go func() { ended <- r.server.Run(t.Context()) }()
	eventually(t, "ready", func() bool { return r.server.Ready() == nil })
	mu.Lock()
	check := make(chan struct{})
	go func() {
		defer close(check)
		r.check(t, call{path: envoyPath + "/items", headers: withToken})
	}()
	for range 2 {
		select {
		case <-told:
			told = nil
		case err := <-ended:
			if !errors.Is(err, ErrHung) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("nobody is told of the hang")
		}
	}
	if !strings.Contains(log.String(), "decisions hang") || !strings.Contains(log.String(), "lockedTags") {
		t.Error("the log does not say what hangs")
	}
	mu.Unlock()
	<-check
}

// TestALogThatHangsTooDelaysTheEndLittle.
func TestALogThatHangsTooDelaysTheEndLittle(t *testing.T) {
	release, told := make(chan struct{}), make(chan struct{})
	s := newRig(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil }), nil))
		o.OnHung = func() { close(told) }
	}).server
	s.hung()
	<-told
	close(release)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// slowTags take a while.
type slowTags struct {
	takes time.Duration
	calls *atomic.Int64
}

func (s slowTags) Check(keymanager.CredentialKind, string) bool {
	s.calls.Add(1)
	time.Sleep(s.takes)
	return false
}

// TestWatchdog counts its own ticks: what is slow is not hung.
func TestWatchdog(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes time.Duration
		hangs bool
	}{
		{"healthy", 0, false}, {"slow", 9900 * time.Millisecond, false}, {"hung", 24 * time.Hour, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				s := newRig(t, func(o *Options) { o.Tags = slowTags{tt.takes, &calls} }).server
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				defer time.Sleep(2 * tt.takes) // in the bubble's time: the last probe ends
				begun := time.Now()
				err := s.watch(ctx)
				took := time.Since(begun)
				switch {
				case tt.hangs && (!errors.Is(err, ErrHung) || took != DefaultWatchdog):
					t.Errorf("%v after %s", err, took)
				case !tt.hangs && (err != nil || took != time.Hour || calls.Load() < 300):
					t.Errorf("%v after %s and %d probes", err, took, calls.Load())
				}
			})
		})
	}
	t.Run("a panic", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, func(o *Options) { o.Tags = panicTags{} }).server
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := s.watch(ctx); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestTheProbeNeedsNobody: it ends before anything is loaded, while the key
// manager hangs, and when authz is blind; and it is not counted.
func TestTheProbeNeedsNobody(t *testing.T) {
	r, c := clockRig(t, nil)
	counted := func() (n uint64) {
		for i := range r.server.record.decisions {
			n += r.server.record.decisions[i].value()
		}
		return n
	}
	r.server.probe(t.Context())
	r.run(t)
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		t.Error("the probe asks the key manager")
		return nil, errors.New("down")
	})
	r.server.probe(t.Context())
	c.advance(time.Hour)
	r.server.probe(t.Context())
	if n := counted(); n != 0 {
		t.Errorf("%d decisions are counted", n)
	}
}
