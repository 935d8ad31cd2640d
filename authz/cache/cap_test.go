package cache

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
)

func TestCap(t *testing.T) {
	release := make(chan struct{})
	var active, most atomic.Int64
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		n := active.Add(1)
		defer active.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return &keymanager.Verdict{}, nil
	}}
	c, err := NewCap(CapOptions{Next: next, Now: newClock().Now, Calls: 4, Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := c.Validate(context.Background(), query("t"))
			results <- err
		}()
	}
	for range 16 { // the others are busy until released
		if err := <-results; !errors.Is(err, ErrBusy) || keymanager.KindOf(err) != keymanager.KindUnavailable {
			t.Errorf("got %v, want busy", err)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Validate(cancelled, query("t")); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who is gone got %v", err)
	}
	close(release)
	for range 4 {
		if err := <-results; err != nil {
			t.Errorf("who had a turn got %v", err)
		}
	}
	if most.Load() != 4 {
		t.Errorf("%d calls at once, want 4", most.Load())
	}
	for range 10 { // every turn has been given back
		if _, err := c.Validate(context.Background(), query("t")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCapGivesTheTurnBackAfterAPanic(t *testing.T) {
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { panic("bug") }}
	c, err := NewCap(CapOptions{Next: next, Now: newClock().Now, Calls: 1, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		func() {
			defer func() { _ = recover() }()
			_, _ = c.Validate(context.Background(), query("t"))
		}()
	}
	if next.calls.Load() != 3 {
		t.Errorf("%d calls, want 3", next.calls.Load())
	}
}
