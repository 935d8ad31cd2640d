package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
)

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
		d := lifetime(now, 10*time.Minute, &key, time.Time{})
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest < 9*time.Minute || longest > 11*time.Minute || longest-shortest < time.Minute {
		t.Errorf("lives from %s to %s, want 9 to 11 minutes", shortest, longest)
	}
}

// TestLRULetsGo: what has expired goes, also when there is room for it.
func TestLRULetsGo(t *testing.T) {
	c := newClock()
	next := &validator{}
	l := newLRU(t, next, c, nil)
	ask := func(prefix string, n int, v *keymanager.Verdict) {
		t.Helper()
		next.f = func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return v, nil }
		for i := range n {
			if _, err := l.Validate(t.Context(), query(fmt.Sprint(prefix, i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(when string, active, refused int) {
		t.Helper()
		l.Tidy()
		if a, n := l.Len(); a != active || n != refused {
			t.Errorf("%s: %d and %d refusals, want %d and %d", when, a, n, active, refused)
		}
	}
	live := func(life time.Duration) *keymanager.Verdict {
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: &keymanager.Grant{ConsumerKey: "ck"}, ExpiresAt: c.Now().Add(life)}
	}
	ask("long", 5, live(10*time.Minute))
	ask("short", 500, live(time.Minute))
	ask("none", 300, &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential, Head: position(1)})
	check("at first", 505, 300)
	c.advance(12 * time.Second)
	check("when the refusals have expired", 505, 0)
	c.advance(time.Minute)
	ask("long", 5, live(10*time.Minute)) // in use
	check("when the short ones have expired", 5, 0)
	c.advance(10 * time.Minute)
	check("when all have expired", 0, 0)
}
