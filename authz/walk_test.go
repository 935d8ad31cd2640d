package authz

import (
	"context"
	"errors"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// TestRoutes is what the route says beside the request.
func TestRoutes(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Group, o.CatalogWait = "edge", time.Millisecond }).run(t)
	r.grant(nil)
	r.settle(t, r.km.SetAPI(petsAPI())) // published for the second time
	head := r.km.Head().Seq
	for _, tt := range []struct {
		name       string
		api        string
		extensions map[string]string
		want       seen
	}{
		{"as here", "", map[string]string{"gw": "edge", "rev": "2"}, seen{status: 200}},
		{"older than here", "", map[string]string{"rev": "1"}, seen{status: 200}},
		{"a route of somebody's own", "", map[string]string{"rev": "0"}, seen{status: 200}},
		{"no api_id", "-", nil, seen{503, "900900", "no_api_id", true}},
		{"empty api_id", "", map[string]string{"api_id": ""}, seen{503, "900900", "no_api_id", true}},
		{"no such API, all known", "gone", map[string]string{"rev": "1"}, seen{404, "404", "unknown_api", false}},
		{"no such API, no revision", "gone", nil, seen{404, "404", "unknown_api", false}},
		{"newer than here", "", map[string]string{"rev": "99"}, seen{503, "900900", "behind_route", true}},
		{"no such API yet", "soon", map[string]string{"rev": "99"}, seen{503, "900900", "behind_route", true}},
		{"revision is not a number", "", map[string]string{"rev": "x"}, seen{503, "900900", "malformed_check", true}},
		{"another gateway group", "", map[string]string{"gw": "other"}, seen{503, "900900", "wrong_gateway", true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := see(t, r.check(t, call{api: tt.api, path: envoyPath + "/items", headers: withToken, extensions: tt.extensions}))
			if got != tt.want {
				t.Errorf("%+v, want %+v (head %d)", got, tt.want, head)
			}
		})
	}
	if r.server.record.ahead.value() != 1 || r.server.record.behind.value() != 2 {
		t.Errorf("skew: %d ahead, %d behind; want 1 and 2", r.server.record.ahead.value(), r.server.record.behind.value())
	}
}

// TestWaitsForTheCatalog: a request whose route is newer waits until the change
// is here.
func TestWaitsForTheCatalog(t *testing.T) {
	r := newRig(t, func(o *Options) { o.CatalogWait = time.Minute }).run(t)
	r.grant(nil)
	answers := make(chan seen, 2)
	for _, id := range []string{"api-pets", "api-new"} {
		go func() {
			answers <- see(t, r.check(t, call{api: id, path: "/new/1/x", headers: withToken, extensions: map[string]string{"rev": "3"}}))
		}()
	}
	eventually(t, "both wait", func() bool { return r.server.record.behind.value() == 2 })
	moved := petsAPI()
	moved.Context, moved.Version = "/new", "1"
	moved.Resources = []keymanager.Resource{{Method: "GET", Path: "/*", AuthType: keymanager.AuthAny}}
	added := *moved
	added.ID = "api-new"
	r.km.SetAPI(moved, &added)
	for range 2 {
		if got := <-answers; got.status != 200 {
			t.Errorf("%+v", got)
		}
	}
}

func TestMalformedMessage(t *testing.T) {
	r := newRig(t, nil).run(t)
	for _, message := range []string{"\x0a\x05abc", "\xff"} {
		if got := see(t, decodeReply(t, r.server.check(t.Context(), message))); got != (seen{503, "900900", "malformed_check", true}) {
			t.Errorf("%q: %+v", message, got)
		}
	}
	if got := see(t, decodeReply(t, r.server.check(t.Context(), ""))); got != (seen{503, "900900", "no_api_id", true}) {
		t.Errorf("empty: %+v", got)
	}
}

// TestCacheOff: every call asks, with token and API.
func TestCacheOff(t *testing.T) {
	off := petsAPI()
	off.Cache = keymanager.CacheOff
	r := newRig(t, nil, off).run(t)
	r.grant(nil)
	for range 5 {
		if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got.status != 200 {
			t.Fatalf("%+v", got)
		}
	}
	calls, _ := r.km.Validations()
	active, negative := r.lru.Len()
	if calls != 5 || active+negative != 0 {
		t.Errorf("%d calls, %d entries cached; want 5 and none", calls, active+negative)
	}
}

// TestRevocationAfterTheCache: every event takes effect on the next call,
// however warm the caches are.
func TestRevocationAfterTheCache(t *testing.T) {
	blocked := func(v *keymanager.Verdict) { v.Grant.Subscription.State = keymanager.Blocked }
	for _, tt := range []struct {
		name    string
		event   func(*keymanagertest.KeyManager) keymanager.Position
		then    func(*keymanager.Verdict) // what the key manager says from now on
		want    seen
		asks    int // calls of the key manager after the event
		without bool
	}{
		{"token", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1}})
		}, nil, seen{401, "900901", "revoked", false}, 0, false},
		{"client", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Kill(keymanager.Dead{ConsumerKey: "consumer-1", NotBefore: time.Now()})
		}, nil, seen{401, "900901", "revoked", false}, 0, false},
		{"token, key manager down", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1}})
		}, nil, seen{401, "900901", "revoked", false}, 0, true},
		{"subscription blocked", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Stale(keymanager.Stale{Application: "app-1"})
		}, blocked, seen{401, "900907", "subscription_blocked", false}, 1, false},
		{"another application", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Stale(keymanager.Stale{Application: "app-2"})
		}, blocked, seen{status: 200}, 0, false},
		{"outdated, key manager down", func(k *keymanagertest.KeyManager) keymanager.Position {
			return k.Stale(keymanager.Stale{Application: "app-1"})
		}, nil, seen{503, "900900", "key_manager_unavailable", true}, 1, true},
		{"another line of history", (*keymanagertest.KeyManager).NewEpoch, blocked, seen{401, "900907", "subscription_blocked", false}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil).run(t)
			r.grant(nil)
			ask := func() seen {
				return see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken, extensions: map[string]string{"rev": "0"}}))
			}
			for range 3 {
				if got := ask(); got.status != 200 {
					t.Fatalf("before: %+v", got)
				}
			}
			if n, _ := r.km.Validations(); n != 1 {
				t.Fatalf("%d calls before the event, want 1", n)
			}
			r.grant(tt.then)
			r.settle(t, tt.event(r.km))
			if tt.without {
				r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, errors.New("down") })
			}
			for i := range 3 {
				if got := ask(); got != tt.want {
					t.Errorf("call %d: %+v, want %+v", i, got, tt.want)
				}
				if tt.want.isError {
					return // and asks each time
				}
			}
			if n, _ := r.km.Validations(); n != 1+tt.asks {
				t.Errorf("%d calls after the event, want %d", n-1, tt.asks)
			}
		})
	}
}

// TestVerdictReadBeforeTheEvent: a slow read brings facts from before a
// revocation, and is not believed.
func TestVerdictReadBeforeTheEvent(t *testing.T) {
	r := newRig(t, nil).run(t)
	v := r.grant(nil)
	old := *v
	old.Head = r.km.Head()
	reads := make(chan struct{}, 10)
	release := make(chan struct{})
	first := true
	r.km.OnValidate(func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
		if first {
			first = false
			reads <- struct{}{}
			<-release
			return &old, nil // read before, comes after
		}
		fresh := *v
		grant := *v.Grant
		fresh.Grant, fresh.Head = &grant, r.km.Head()
		fresh.Grant.Subscription = nil
		return &fresh, nil
	})
	answer := make(chan seen, 1)
	go func() { answer <- see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})) }()
	<-reads
	r.settle(t, r.km.Stale(keymanager.Stale{Application: "app-1"}))
	close(release)
	if got := <-answer; got != (seen{403, "900908", "not_subscribed", false}) {
		t.Errorf("%+v", got)
	}
	// A key manager that never catches up decides nothing.
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return &old, nil })
	r.settle(t, r.km.Stale(keymanager.Stale{Application: "app-1"}))
	if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got != (seen{503, "900900", "outdated", true}) {
		t.Errorf("%+v", got)
	}
}

// TestOneEventAfterAnother: each answer of the key manager is outdated by an event
// that comes while it answers. It is asked until it was quicker, but not for ever.
func TestOneEventAfterAnother(t *testing.T) {
	for events, want := range map[int]seen{
		1: {status: 200}, 2: {status: 200}, 4: {status: 200},
		5: {503, "900900", "outdated", true}, 100: {503, "900900", "outdated", true},
	} {
		r := newRig(t, nil).run(t)
		v := r.grant(nil)
		before, n := r.km.Head(), 0
		r.km.OnValidate(func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
			if n > 0 && !q.Since.Reached(before) {
				t.Errorf("question %d is content with %v, and %v has made that outdated", n+1, q.Since, before)
			}
			now := *v
			now.Head = r.km.Head()
			if n++; n <= events {
				before = r.km.Stale(keymanager.Stale{Application: "app-1"})
				r.settle(t, before)
			}
			return &now, nil
		})
		if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got != want || n != min(events+1, mostQuestions) {
			t.Errorf("%d events: %+v after %d questions, want %+v", events, got, n, want)
		}
	}
}

// TestKeysOfTheTagDiffer: what authz takes for ours and the key manager does
// not is refused, though such a verdict has no place in the log.
func TestKeysOfTheTagDiffer(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}, nil
	})
	if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got != (seen{401, "900901", "unknown_credential", false}) {
		t.Errorf("%+v", got)
	}
}

// TestDecisionsDoNotMix: one token on two APIs and two methods, alternating
// from many callers.
func TestDecisionsDoNotMix(t *testing.T) {
	other := petsAPI()
	other.ID, other.Context = "api-other", "/other"
	r := newRig(t, nil, petsAPI(), other).run(t)
	v := r.grant(nil)
	unsubscribed := *v
	grant := *v.Grant
	grant.Subscription = nil
	unsubscribed.Grant = &grant
	r.km.SetVerdict(keymanager.Credential{Kind: keymanager.AccessToken, Value: goodToken}, "api-other", &unsubscribed)
	cases := []struct {
		c    call
		want int
	}{
		{call{path: envoyPath + "/items/1", headers: withToken}, 200},
		{call{method: "DELETE", path: envoyPath + "/items/1", headers: withToken}, 403},
		{call{api: "api-other", path: "/other/1.0.0/items/1", headers: withToken, extensions: map[string]string{"rev": "2"}}, 403},
		{call{path: envoyPath + "/items/1"}, 401},
	}
	done := make(chan struct{})
	for worker := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				tt := cases[(worker+i)%len(cases)]
				if got := see(t, r.check(t, tt.c)); got.status != tt.want {
					t.Errorf("%+v: %+v", tt.c, got)
				}
			}
		}()
	}
	for range 8 {
		<-done
	}
}
