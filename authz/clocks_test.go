package authz

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// TestFaultClocks: a clock that is wrong never makes a credential live longer or
// die earlier.
func TestFaultClocks(t *testing.T) {
	t.Run("F35 leeway", func(t *testing.T) {
		at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, tt := range []struct {
			name            string
			here            time.Duration // after expiry
			skew            time.Duration
			expired, agreed bool
		}{
			{"before", -1, 0, false, true},
			{"at that very moment", 0, 0, true, true},
			{"a second past", time.Second, 0, true, true},
			{"a small skew is no leeway", 0, -59 * time.Second, true, true},
			{"nor shortens it", -1, 59 * time.Second, false, true},
			{"a large skew, both before", -2 * time.Hour, time.Hour, false, true},
			{"a large skew, both past", 2 * time.Hour, -time.Hour, true, true},
			{"past by the clock here alone", time.Minute, -time.Hour, true, false},
			{"past by the key manager's alone", -time.Minute, time.Hour, false, false},
		} {
			var c contact
			now := at.Add(tt.here)
			c.started = now
			c.told(now.Add(tt.skew), now)
			if expired, agreed := c.clocks(now).expired(at); expired != tt.expired || agreed != tt.agreed {
				t.Errorf("%s: expired %t, agreed %t", tt.name, expired, agreed)
			}
			if expired, agreed := c.clocks(now).expired(time.Time{}); expired || !agreed {
				t.Errorf("%s: what never expires has", tt.name)
			}
		}
	})
	for name, off := range map[string]time.Duration{"F30 authz an hour ahead": -time.Hour, "F30 authz an hour behind": time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			var log lines
			var km *keymanagertest.KeyManager
			keyManagerNow := func() time.Time { return c.Now().Add(off) }
			r := newRig(t, func(o *Options) {
				km = keymanagertest.New(keymanagertest.Options{Now: keyManagerNow}, petsAPI())
				o.Validator, o.Uncached, o.Catalog, o.Revocations, o.Gateways, o.Now = km, km, km, km, km, c.Now
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			r.km = km
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.server.Run(ctx) }()
			defer func() { cancel(); must(t, <-done) }()
			eventually(t, "a word from both", func() bool {
				r.km.Beat()
				return r.server.contact.skew(c.Now()) != 0 && r.server.apis.Loaded()
			})
			if err := r.server.Ready(); err == nil || !strings.Contains(err.Error(), "clock") {
				t.Errorf("ready: %v", err)
			}
			eventually(t, "an alarm", func() bool { return strings.Contains(log.String(), "level=ERROR") })
			ask := func(expires time.Time) string {
				r.grant(func(v *keymanager.Verdict) { v.ExpiresAt = expires })
				got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken}))
				if got.status == 200 {
					return "allowed"
				}
				return got.reason
			}
			theirs, here := keyManagerNow(), c.Now()
			early, later := theirs, here
			if here.Before(theirs) {
				early, later = here, theirs
			}
			for _, tt := range []struct {
				expires time.Time
				want    string
			}{
				{early.Add(-time.Second), "expired"}, {early.Add(time.Second), "clocks_differ"}, {later, "clocks_differ"},
				{later.Add(time.Second), "allowed"}, {time.Time{}, "allowed"},
			} {
				if got := ask(tt.expires); got != tt.want {
					t.Errorf("expires %s: %s, want %s", tt.expires, got, tt.want)
				}
			}
			p := r.km.Kill(keymanager.Dead{TokenID: r.grant(nil).TokenID})
			eventually(t, "the revocation", func() bool { return r.server.revoked.Position().Reached(p) })
			if got := ask(time.Time{}); got != "revoked" {
				t.Errorf("a revoked one: %s", got)
			}
		})
	}
}

// TestSkewIsToldOnce: one line when a clock becomes wrong and one when it is
// right again, however it moves about the bound.
func TestSkewIsToldOnce(t *testing.T) {
	var log lines
	r := newRig(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	told := skewNone
	for _, seconds := range []float64{0, 1.9, -2.1, 1.5, 2.5, 61, 59, -70, 31, 29, 3, 0.5, 0} {
		told = r.server.tellSkew(t.Context(), told, time.Duration(seconds*float64(time.Second)))
	}
	got := log.String()
	if told != skewNone || strings.Count(got, "\n") != 4 || strings.Count(got, "level=ERROR") != 1 || strings.Count(got, "level=WARN") != 2 || strings.Count(got, "level=INFO") != 1 {
		t.Errorf("%d\n%s", told, got)
	}
}

// TestAStepHereShowsAtOnce: not only with the next heartbeat.
func TestAStepHereShowsAtOnce(t *testing.T) {
	var c contact
	c.started = time.Now()
	c.told(time.Now(), time.Now())
	if skew := c.skew(time.Now()); skew.Abs() > time.Second {
		t.Errorf("equal clocks differ by %s", skew)
	}
	stepped := time.Now().Round(0).Add(-time.Hour) // no reading of the clock that no step moves
	c.started = c.started.Round(0).Add(-time.Hour) // so that the same time has passed since
	if skew := c.skew(stepped); (skew - time.Hour).Abs() > time.Second {
		t.Errorf("after a step back by an hour they differ by %s", skew)
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
