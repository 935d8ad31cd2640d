package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"tollgate/keymanager"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("away")

// validator answers with f and counts.
type validator struct {
	calls atomic.Int64
	f     func(context.Context, keymanager.Query) (*keymanager.Verdict, error)
}

func (v *validator) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	v.calls.Add(1)
	return v.f(ctx, q)
}

func position(seq uint64) keymanager.Position {
	return keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: seq}
}

func query(value string) keymanager.Query {
	return keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value}, API: "api-1"}
}

// clock is set by hand.
type clock struct{ now atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.now.Store(1_700_000_000_000_000_000)
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.now.Load()) }
func (c *clock) advance(d time.Duration) { c.now.Add(int64(d)) }

func TestKeysAreInjective(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune{'a', 'b', 0, 1, 2, 255}), 0, 6, -1)
	draw := func(t *rapid.T) keymanager.Query {
		return keymanager.Query{
			Credential: keymanager.Credential{
				Kind:  keymanager.CredentialKind(rapid.IntRange(1, 2).Draw(t, "kind")),
				Value: text.Draw(t, "value"),
			},
			API: keymanager.APIID(text.Draw(t, "api")),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		if (a == b) != (KeyOf(a) == KeyOf(b)) {
			t.Fatalf("%+v and %+v", a.API, b.API)
		}
		fresh := a
		fresh.Since = position(7)
		if KeyOf(a) != KeyOf(fresh) {
			t.Fatal("how fresh an answer must be changes its key")
		}
	})
}

func newLRU(t testing.TB, next keymanager.Validator, c *clock, change func(*LRUOptions)) *LRU {
	t.Helper()
	o := LRUOptions{Next: next, Now: c.Now}
	if change != nil {
		change(&o)
	}
	l, err := NewLRU(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLRU(t *testing.T) {
	c := newClock()
	active := func() *keymanager.Verdict {
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(10), Grant: &keymanager.Grant{ConsumerKey: "ck"}}
	}
	with := func(f func(*keymanager.Verdict)) *keymanager.Verdict {
		v := active()
		f(v)
		return v
	}
	for _, tt := range []struct {
		name    string
		verdict *keymanager.Verdict
		err     error
		wait    time.Duration
		since   keymanager.Position
		cached  bool // the second of two equal queries asks nobody
	}{
		{name: "active", verdict: active(), cached: true},
		{name: "active, before its time", verdict: active(), wait: 13 * time.Minute, cached: true},
		{name: "active, after its time", verdict: active(), wait: 17 * time.Minute},
		{name: "expires sooner, before", verdict: with(func(v *keymanager.Verdict) { v.ExpiresAt = c.Now().Add(time.Minute) }), wait: 59 * time.Second, cached: true},
		{name: "expires sooner, then", verdict: with(func(v *keymanager.Verdict) { v.ExpiresAt = c.Now().Add(time.Minute) }), wait: time.Minute},
		{name: "expired already", verdict: with(func(v *keymanager.Verdict) { v.ExpiresAt = c.Now() })},
		{name: "since before it", verdict: active(), since: position(9), cached: true},
		{name: "since then", verdict: active(), since: position(10), cached: true},
		{name: "since later", verdict: active(), since: position(11)},
		{name: "since another epoch", verdict: active(), since: keymanager.Position{Epoch: keymanager.Epoch{2}, Seq: 1}},
		{name: "unknown credential", verdict: with(func(v *keymanager.Verdict) { v.Reason, v.Grant = keymanager.ReasonNoSuchCredential, nil }), cached: true},
		{name: "unknown credential, later", verdict: with(func(v *keymanager.Verdict) { v.Reason, v.Grant = keymanager.ReasonNoSuchCredential, nil }), wait: 12 * time.Second},
		{name: "unknown credential, since later", verdict: with(func(v *keymanager.Verdict) { v.Reason, v.Grant = keymanager.ReasonNoSuchCredential, nil }), since: position(11)},
		{name: "expired", verdict: with(func(v *keymanager.Verdict) {
			v.Reason, v.ExpiresAt = keymanager.ReasonExpired, c.Now().Add(-time.Hour)
		}), cached: true},
		{name: "revoked", verdict: with(func(v *keymanager.Verdict) { v.Reason = keymanager.ReasonRevoked }), cached: true},
		{name: "nothing decided", verdict: &keymanager.Verdict{Head: position(10)}},
		{name: "error", err: errAway},
		{name: "nothing at all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return tt.verdict, tt.err }}
			l := newLRU(t, next, c, nil)
			q := query("t")
			q.Since = tt.since
			for i := range 2 {
				v, err := l.Validate(t.Context(), q)
				if !errors.Is(err, tt.err) || (v == nil) != (tt.verdict == nil) {
					t.Fatalf("call %d: %v, %v", i, v, err)
				}
				if v != nil && (v.Reason != tt.verdict.Reason || v.Head != tt.verdict.Head || v.ExpiresAt != tt.verdict.ExpiresAt) {
					t.Errorf("call %d: the verdict is %+v", i, v)
				}
				c.advance(tt.wait)
			}
			want := int64(2)
			if tt.cached {
				want = 1
			}
			if got := next.calls.Load(); got != want {
				t.Errorf("%d calls, want %d", got, want)
			}
		})
	}
}

// TestLRUKeepsQueriesApart: one token on two APIs, one value as two kinds.
func TestLRUKeepsQueriesApart(t *testing.T) {
	next := &validator{f: func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: q.Credential.Kind, Head: position(1),
			Grant: &keymanager.Grant{ConsumerKey: keymanager.ConsumerKey(q.API), User: q.Credential.Value}}, nil
	}}
	l := newLRU(t, next, newClock(), nil)
	for range 3 {
		for _, api := range []keymanager.APIID{"a", "b"} {
			for _, kind := range []keymanager.CredentialKind{keymanager.AccessToken, keymanager.APIKeyCredential} {
				for _, value := range []string{"x", "y"} {
					v, err := l.Validate(t.Context(), keymanager.Query{API: api, Credential: keymanager.Credential{Kind: kind, Value: value}})
					if err != nil || v.Kind != kind || v.Grant.ConsumerKey != keymanager.ConsumerKey(api) || v.Grant.User != value {
						t.Fatalf("%s %d %s: %+v, %v", api, kind, value, v, err)
					}
				}
			}
		}
	}
	if got := next.calls.Load(); got != 8 {
		t.Errorf("%d calls, want 8", got)
	}
}

// TestRefusalsDoNotPushOut: a flood of unknown credentials costs the live ones
// nothing.
func TestRefusalsDoNotPushOut(t *testing.T) {
	next := &validator{f: func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
		if q.Credential.Value[0] == 'g' {
			return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: &keymanager.Grant{}}, nil
		}
		return &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential, Head: position(1)}, nil
	}}
	l := newLRU(t, next, newClock(), func(o *LRUOptions) { o.Size, o.NegativeSize = 1600, 64 })
	ask := func(value string) {
		if _, err := l.Validate(t.Context(), query(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		ask(fmt.Sprint("good", i))
	}
	for i := range 20_000 {
		ask(fmt.Sprint("bad", i))
	}
	active, negative := l.Len()
	if active != 500 || negative != 64 {
		t.Errorf("%d active and %d refused, want 500 and 64", active, negative)
	}
	next.calls.Store(0)
	for i := range 500 {
		ask(fmt.Sprint("good", i))
	}
	if n := next.calls.Load(); n != 0 {
		t.Errorf("%d live credentials were pushed out", n)
	}
}

// TestRenewed: what is read again because it was outdated takes the old place,
// also when a live credential has become a refusal.
func TestRenewed(t *testing.T) {
	var answer atomic.Pointer[keymanager.Verdict]
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return answer.Load(), nil }}
	l := newLRU(t, next, newClock(), nil)
	set := func(reason keymanager.Reason, seq uint64) {
		answer.Store(&keymanager.Verdict{Reason: reason, Head: position(seq), Grant: &keymanager.Grant{}})
	}
	ask := func(since keymanager.Position) keymanager.Reason {
		q := query("t")
		q.Since = since
		v, err := l.Validate(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return v.Reason
	}
	set(keymanager.ReasonActive, 1)
	ask(keymanager.Position{})
	set(keymanager.ReasonRevoked, 5)
	if got := ask(position(5)); got != keymanager.ReasonRevoked {
		t.Fatalf("fresh: %d", got)
	}
	if got := ask(keymanager.Position{}); got != keymanager.ReasonRevoked {
		t.Errorf("afterwards: %d; the old verdict is still there", got)
	}
	set(keymanager.ReasonActive, 7)
	ask(position(7))
	if got := ask(keymanager.Position{}); got != keymanager.ReasonActive {
		t.Errorf("active again: %d", got)
	}
	// A slow reader brings an older verdict: it does not replace the newer one.
	set(keymanager.ReasonActive, 6)
	ask(position(8))
	if v, err := l.Validate(t.Context(), query("t")); err != nil || v.Head != position(7) {
		t.Errorf("head is %v, want 7 (%v)", v.Head, err)
	}
}

// TestJitter: lives differ by a tenth at most and not all in the same way.
func TestJitter(t *testing.T) {
	now := time.Unix(0, 0)
	shortest, longest := time.Hour, time.Duration(0)
	for i := range 1000 {
		key := KeyOf(query(fmt.Sprint(i)))
		d := time.Duration(lifetime(now, 10*time.Minute, &key, time.Time{}))
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest < 9*time.Minute || longest > 11*time.Minute || longest-shortest < time.Minute {
		t.Errorf("lives from %s to %s, want 9 to 11 minutes", shortest, longest)
	}
}

func newFlight(t testing.TB, next keymanager.Validator, timeout time.Duration) *Flight {
	t.Helper()
	f, err := NewFlight(FlightOptions{Next: next, Timeout: timeout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
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
	for f.joined.Load() != 999 {
		time.Sleep(time.Millisecond)
	}
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
	for f.started.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
	stays := make(chan error, 1)
	go func() {
		_, err := f.Validate(context.Background(), query("t"))
		stays <- err
	}()
	for f.joined.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
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
	for f.joined.Load() != 9 {
		time.Sleep(time.Millisecond)
	}
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
	for f.started.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
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

func TestOptions(t *testing.T) {
	next := &validator{}
	now, log := newClock().Now, slog.New(slog.DiscardHandler)
	for name, err := range map[string]error{
		"LRU without Next":            second(NewLRU(LRUOptions{Now: now})),
		"LRU without Now":             second(NewLRU(LRUOptions{Next: next})),
		"LRU with a negative size":    second(NewLRU(LRUOptions{Next: next, Now: now, Size: -1})),
		"Flight without Next":         second(NewFlight(FlightOptions{Logger: log})),
		"Flight without Logger":       second(NewFlight(FlightOptions{Next: next})),
		"Flight, negative timeout":    second(NewFlight(FlightOptions{Next: next, Logger: log, Timeout: -1})),
		"Cap without Next":            second(NewCap(CapOptions{Now: now})),
		"Cap with a negative maximum": second(NewCap(CapOptions{Next: next, Now: now, Calls: -1})),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }
