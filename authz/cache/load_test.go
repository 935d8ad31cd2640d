package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"tollgate/keymanager"
)

// stepped returns t as a system clock shows it that was set by d since the
// process started: the part of a time.Time that measures durations is untouched.
func stepped(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(int64(d/time.Second)) << 30
	return t
}

func TestStepped(t *testing.T) {
	now := time.Now()
	for _, d := range []time.Duration{time.Hour, -time.Hour} {
		later := stepped(now.Add(time.Second), d)
		if later.Sub(now) != time.Second || later.Unix()-now.Unix() < int64((d).Seconds()) || later.Unix()-now.Unix() > int64(d.Seconds())+2 {
			t.Fatalf("a step of %s: %s, %s", d, now, later)
		}
	}
}

// TestFaultClockStep: a step of the clock is no passing of time.
func TestFaultClockStep(t *testing.T) {
	for name, d := range map[string]time.Duration{"F33 an hour ahead": time.Hour, "F33 an hour back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			base := time.Now()
			var passed, step atomic.Int64
			now := func() time.Time {
				return stepped(base.Add(time.Duration(passed.Load())), time.Duration(step.Load()))
			}
			next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
				return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: &keymanager.Grant{}}, nil
			}}
			limited, err := NewCap(CapOptions{Next: next, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			l, err := NewLRU(LRUOptions{Next: newFlight(t, limited, time.Minute), Now: now, TTL: 10 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			calls := func() int64 {
				if _, err := l.Validate(t.Context(), query("t")); err != nil {
					t.Fatal(err)
				}
				return next.calls.Load()
			}
			calls()
			step.Store(int64(d))
			if n := calls(); n != 1 {
				t.Errorf("after the step: %d calls, want 1", n)
			}
			passed.Store(int64(8 * time.Minute))
			if n := calls(); n != 1 {
				t.Errorf("8 of 10 minutes later: %d calls, want 1", n)
			}
			passed.Store(int64(12 * time.Minute))
			if n := calls(); n != 2 {
				t.Errorf("12 of 10 minutes later: %d calls, want 2", n)
			}
		})
	}
}

// TestOnlySoManyWait: callers beyond the bound are refused at once, in the
// flight and in the queue before the key manager.
func TestOnlySoManyWait(t *testing.T) {
	release := make(chan struct{})
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		<-release
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1)}, nil
	}}
	f, err := NewFlight(FlightOptions{Next: next, Callers: 5, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCap(CapOptions{Next: next, Now: time.Now, Calls: 1, Queue: 5, Wait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 6 {
		if i < 5 {
			wait.Go(func() {
				if _, err := f.Validate(context.Background(), query("t")); err != nil {
					t.Errorf("who may wait got %v", err)
				}
			})
		}
		wait.Go(func() {
			if _, err := c.Validate(context.Background(), query("t")); err != nil {
				t.Errorf("who may queue got %v", err)
			}
		})
	}
	for deadline := time.Now().Add(30 * time.Second); f.waiting.Load() != 5 || len(c.queue) != 5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	for name, v := range map[string]keymanager.Validator{"flight": f, "cap": c} {
		if _, err := v.Validate(context.Background(), query("t")); !errors.Is(err, ErrBusy) || keymanager.KindOf(err) != keymanager.KindUnavailable {
			t.Errorf("%s: one too many got %v", name, err)
		}
	}
	close(release)
	wait.Wait()
	if f.waiting.Load() != 0 || len(c.queue) != 0 || len(c.turns) != 0 {
		t.Errorf("%d wait, %d queue, %d have a turn at the end", f.waiting.Load(), len(c.queue), len(c.turns))
	}
}

// TestFaultColdStart: with empty caches, and after the key manager was away,
// it gets no more calls at once than it was promised, and each token is asked
// for by one caller at a time.
func TestFaultColdStart(t *testing.T) {
	t.Run("F13 herd", func(t *testing.T) {
		const tokens, callers, limit = 400, 2000, 16
		var away atomic.Bool
		var active, most atomic.Int64
		var asked sync.Map // credentials that are asked for now
		next := &validator{f: func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
			if _, twice := asked.LoadOrStore(q.Credential, true); twice {
				t.Error("a token is asked for twice at once")
			}
			defer asked.Delete(q.Credential)
			n := active.Add(1)
			defer active.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			runtime.Gosched() // let the others come
			if away.Load() {
				return nil, errAway
			}
			return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: &keymanager.Grant{}}, nil
		}}
		c, err := NewCap(CapOptions{Next: next, Now: time.Now, Calls: limit, Queue: 100})
		if err != nil {
			t.Fatal(err)
		}
		f := newFlight(t, c, time.Minute)
		l, err := NewLRU(LRUOptions{Next: f, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		storm := func() (answered, refused int64) {
			var yes, no atomic.Int64
			var wait sync.WaitGroup
			for i := range callers {
				wait.Go(func() {
					if _, err := l.Validate(context.Background(), query(fmt.Sprint(i%tokens))); err == nil {
						yes.Add(1)
					} else {
						no.Add(1)
					}
				})
			}
			wait.Wait()
			return yes.Load(), no.Load()
		}
		away.Store(true)
		if yes, no := storm(); yes != 0 || no != callers {
			t.Errorf("away: %d answered, %d refused", yes, no)
		}
		away.Store(false)
		for deadline := time.Now().Add(30 * time.Second); ; {
			if _, no := storm(); no == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it never recovers")
			}
		}
		before := next.calls.Load()
		if _, no := storm(); no != 0 || next.calls.Load() != before {
			t.Errorf("once everything is known: %d refused, %d calls", no, next.calls.Load()-before)
		}
		if most.Load() > limit {
			t.Errorf("%d calls at once, want at most %d", most.Load(), limit)
		}
	})
}
