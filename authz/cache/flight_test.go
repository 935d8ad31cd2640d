package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
)

func newFlight(t testing.TB, next keymanager.Validator, timeout time.Duration) *Flight {
	t.Helper()
	f, err := NewFlight(FlightOptions{Next: next, Timeout: timeout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// await waits until a counter has a value.
func await(t *testing.T, counter *atomic.Uint64, want uint64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); counter.Load() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the counter stands at %d, want %d", counter.Load(), want)
		}
	}
}

// TestOneCallOfMany: 1,000 concurrent misses of one token are one call.
func TestOneCallOfMany(t *testing.T) {
	release := make(chan struct{})
	next := &validator{f: func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
		select {
		case <-release:
			return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: &keymanager.Grant{}}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	f := newFlight(t, next, time.Minute)
	l := newLRU(t, f, newClock(), nil)
	var wait sync.WaitGroup
	for range 1000 {
		wait.Go(func() {
			if v, err := l.Validate(context.Background(), query("t")); err != nil || v.Reason != keymanager.ReasonActive {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
	await(t, &f.joined, 999)
	close(release)
	wait.Wait()
	if n := next.calls.Load(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	if _, err := l.Validate(t.Context(), query("t")); err != nil || next.calls.Load() != 1 {
		t.Error("the one answer is not remembered")
	}
}

// TestCallersLeave: a caller goes at its own deadline; the call goes on for the
// others, even if its first caller is gone.
func TestCallersLeave(t *testing.T) {
	release := make(chan struct{})
	next := &validator{f: func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
		select {
		case <-release:
			return &keymanager.Verdict{Reason: keymanager.ReasonActive}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	f := newFlight(t, next, time.Minute)
	first, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() {
		_, err := f.Validate(first, query("t"))
		left <- err
	}()
	await(t, &f.started, 1)
	stays := make(chan error, 1)
	go func() {
		_, err := f.Validate(context.Background(), query("t"))
		stays <- err
	}()
	await(t, &f.joined, 1)
	cancel()
	if err := <-left; keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("who left got %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), Margin+time.Millisecond)
	defer cancel()
	if _, err := f.Validate(short, query("t")); err == nil || short.Err() != nil {
		t.Errorf("a caller with a deadline got %v, and %v of it is left", err, short.Err())
	}
	close(release)
	if err := <-stays; err != nil {
		t.Errorf("who stayed got %v", err)
	}
	if n := next.calls.Load(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestFlightHasItsOwnTimeout(t *testing.T) {
	next := &validator{f: func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	if _, err := newFlight(t, next, time.Millisecond).Validate(context.Background(), query("t")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPanicReleasesAll(t *testing.T) {
	release := make(chan struct{})
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		<-release
		panic("a bug with a credential in it")
	}}
	f := newFlight(t, next, time.Minute)
	errs := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := f.Validate(context.Background(), query("t"))
			errs <- err
		}()
	}
	await(t, &f.joined, 9)
	close(release)
	for range 10 {
		if err := <-errs; !errors.Is(err, errPanicked) {
			t.Errorf("got %v", err)
		}
	}
	next.f = func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return &keymanager.Verdict{Reason: keymanager.ReasonActive}, nil
	}
	if _, err := f.Validate(context.Background(), query("t")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestFresherQueryStartsItsOwn: who wants newer facts does not get those of a
// call that was not asked for them.
func TestFresherQueryStartsItsOwn(t *testing.T) {
	release := make(chan struct{})
	next := &validator{}
	next.f = func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
		if q.Since == (keymanager.Position{}) {
			<-release
			return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1)}, nil
		}
		return &keymanager.Verdict{Reason: keymanager.ReasonRevoked, Head: q.Since}, nil
	}
	f := newFlight(t, next, time.Minute)
	old := make(chan *keymanager.Verdict, 1)
	go func() {
		v, _ := f.Validate(context.Background(), query("t"))
		old <- v
	}()
	await(t, &f.started, 1)
	q := query("t")
	q.Since = position(5)
	if v, err := f.Validate(context.Background(), q); err != nil || v.Reason != keymanager.ReasonRevoked {
		t.Errorf("%v, %v", v, err)
	}
	close(release)
	if v := <-old; v.Reason != keymanager.ReasonActive {
		t.Errorf("the older call was disturbed: %v", v)
	}
}
