package authz

import (
	"context"
	"errors"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// TestMaxStaleOfAnAPI: past its own max_stale an API is never decided from the
// caches: its calls ask the key manager, and past the deployment's too they are
// 503. One with a longer max_stale goes on.
func TestMaxStaleOfAnAPI(t *testing.T) {
	own := func(d time.Duration) *time.Duration { return &d }
	const deployment = 100 * time.Second
	for _, tt := range []struct {
		name     string
		maxStale *time.Duration
		silence  time.Duration
		asks     bool // the key manager, for a credential that is cached
		status   int
		public   int // of a resource without a credential
	}{
		{"in contact", own(0), 3 * time.Second, false, 200, 200},
		{"0, contact is lost", own(0), 3*time.Second + 1, true, 200, 503},
		{"1 s is not shorter than the loss of contact", own(time.Second), 3 * time.Second, false, 200, 200},
		{"10 s, within", own(10 * time.Second), 10 * time.Second, false, 200, 200},
		{"10 s, past", own(10 * time.Second), 10*time.Second + 1, true, 200, 503},
		{"0, past the deployment's", own(0), deployment + 1, false, 503, 503},
		{"none, within", nil, deployment, false, 200, 200},
		{"none, past", nil, deployment + 1, false, 503, 503},
		{"longer, within", own(200 * time.Second), 200 * time.Second, false, 200, 200},
		{"longer, past", own(200 * time.Second), 200*time.Second + 1, false, 503, 503},
		{"no more than ten minutes", own(time.Hour), 10*time.Minute + 1, false, 503, 503},
		{"negative is 0", own(-time.Second), 3*time.Second + 1, true, 200, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			c.nanos.Store(time.Now().UnixNano()) // as the fake key manager's
			r := newRig(t, func(o *Options) { o.MaxStale, o.Now = deployment, c.Now })
			api := petsAPI()
			api.MaxStale = tt.maxStale
			r.km.SetAPI(api)
			r.run(t)
			r.settle(t, r.km.Head())
			r.grant(nil)
			ask := func(path string) seen {
				return see(t, r.check(t, call{path: envoyPath + path, headers: withToken}))
			}
			if got := ask("/items"); got.status != 200 {
				t.Fatalf("in contact: %+v", got)
			}
			r.km.Mute(true)
			before, _ := r.km.Validations()
			c.advance(tt.silence)
			if got := ask("/items"); got.status != tt.status || tt.status == 503 && got.reason != "blind" {
				t.Errorf("%+v, want %d", got, tt.status)
			}
			if calls, _ := r.km.Validations(); (calls > before) != tt.asks {
				t.Errorf("%d calls of the key manager, want some: %t", calls-before, tt.asks)
			}
			if got := ask("/public"); got.status != tt.public {
				t.Errorf("without a credential: %+v, want %d", got, tt.public)
			}
			if tt.asks {
				r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, errors.New("down") })
				if got := ask("/items"); got.status != 503 {
					t.Errorf("and the key manager is down: %+v", got)
				}
			}
			want := 0
			if tt.status == 503 {
				want = 1
			}
			if n := r.server.blindAPIs(c.Now()); n != want {
				t.Errorf("%d blind APIs, want %d", n, want)
			}
		})
	}
}

// TestUnknownAPIOfABlindGateway: what is not known may have been published
// since.
func TestUnknownAPIOfABlindGateway(t *testing.T) {
	r, c := clockRig(t, nil)
	r.run(t)
	ask := func() seen { return see(t, r.check(t, call{path: envoyPath + "/public", api: "api-other"})) }
	if got := ask(); got.status != 404 {
		t.Errorf("in contact: %+v", got)
	}
	r.km.Mute(true)
	c.advance(time.Hour)
	if got := ask(); got != (seen{503, "900900", "blind", true}) {
		t.Errorf("blind: %+v", got)
	}
}

// TestWhatWaitedInABufferIsNotContact: after a pause of the process the streams
// hold messages from before. Until a new stream has begun nothing is decided
// from the caches.
func TestWhatWaitedInABufferIsNotContact(t *testing.T) {
	r, c := clockRig(t, func(o *Options) { o.MaxStale = 10 * time.Second })
	r.run(t)
	opened := r.km.Opened(keymanagertest.RevocationsStream)
	c.advance(time.Minute) // both streams are open, and a heartbeat is on its way
	if p := r.server.phase(c.Now()); p != keymanager.PhaseBlind {
		t.Fatalf("after the pause: %s", p)
	}
	r.km.Beat()
	eventually(t, "in contact again", func() bool { return r.server.Ready() == nil })
	if now := r.km.Opened(keymanagertest.RevocationsStream); now == opened {
		t.Error("contact was taken from a stream that was open in the pause")
	}
}

// TestLagInEvents: a verdict that was read later than what has taken effect
// here tells of events that have not come.
func TestLagInEvents(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.grant(nil)
	if got := r.server.behind(); got != 0 {
		t.Errorf("%d events behind at the start", got)
	}
	r.km.Mute(true)
	for range 5 {
		r.km.Stale(keymanager.Stale{Application: "another"})
	}
	see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken}))
	if got := r.server.behind(); got != 5 {
		t.Errorf("%d events behind, want 5", got)
	}
	r.km.Mute(false)
	r.settle(t, r.km.Head())
	if got := r.server.behind(); got != 0 {
		t.Errorf("%d events behind at the end", got)
	}
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		v := *r.grant(nil)
		v.Head = keymanager.Position{Epoch: keymanager.Epoch{9}, Seq: 1 << 40}
		return &v, nil
	})
	see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken}))
	if got := r.server.behind(); got != 0 {
		t.Errorf("%d events behind by a number of another epoch", got)
	}
}
