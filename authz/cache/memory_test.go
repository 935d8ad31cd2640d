package cache

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// grantFor makes a grant of its own for every call, as reading from a database
// does.
func grantFor(i int) *keymanager.Grant {
	app := fmt.Sprintf("application-%d", i%1000)
	return &keymanager.Grant{
		Organization: "acme",
		Application: keymanager.GrantApplication{ID: keymanager.ApplicationID(app), Name: "The " + app, Tier: "Gold",
			Attributes: map[string]string{"cost_center": "42"}},
		ConsumerKey: keymanager.ConsumerKey("consumer-" + app), KeyType: keymanager.Production,
		Subscriber: "PRIMARY/jane", User: "PRIMARY/jane", UserID: "user-1", UserStore: "PRIMARY", UserType: keymanager.UserTypeApplication,
		Scopes:       []keymanager.Scope{"pets:read", "pets:write"},
		Subscription: &keymanager.GrantSubscription{ID: keymanager.SubscriptionID("sub-" + app), State: keymanager.Unblocked, Tier: "Silver"},
	}
}

// TestMemory holds a cached verdict to its size: all that lives because of it,
// with 100 tokens to each of 1,000 applications.
func TestMemory(t *testing.T) {
	const tokens, limit = 100_000, 300
	n := 0
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		n++
		id := keymanager.TokenID{}
		binary.BigEndian.PutUint64(id[:], uint64(n))
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, TokenID: id,
			IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour), Head: position(uint64(n)), Grant: grantFor(n)}, nil
	}}
	before := live()
	l, err := NewLRU(LRUOptions{Next: next, Now: time.Now, Size: 2 * tokens})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tokens {
		if _, err := l.Validate(t.Context(), query(fmt.Sprintf("tgat_%065d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if active, _ := l.Len(); active != tokens {
		t.Fatalf("%d verdicts are cached, want %d", active, tokens)
	}
	each := float64(live()-before) / tokens
	t.Logf("%.0f bytes live for each cached verdict", each)
	if each > limit {
		t.Errorf("%.0f bytes live for each cached verdict, want at most %d", each, limit)
	}
	runtime.KeepAlive(l)
}

func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestEqualGrantsAreShared(t *testing.T) {
	s := newGrants()
	a := s.share(grantFor(1))
	if s.share(grantFor(1)) != a {
		t.Error("equal grants are not shared")
	}
	if s.share(nil) != nil {
		t.Error("no grant became one")
	}
	// Each differs from a in one field, most of which the hash does not look at.
	for i, change := range []func(*keymanager.Grant){
		func(g *keymanager.Grant) { g.Organization = "x" },
		func(g *keymanager.Grant) { g.Application.ID = "x" },
		func(g *keymanager.Grant) { g.Application.Name = "x" },
		func(g *keymanager.Grant) { g.Application.Tier = "x" },
		func(g *keymanager.Grant) { g.Application.Attributes["cost_center"] = "x" },
		func(g *keymanager.Grant) { g.ConsumerKey = "x" },
		func(g *keymanager.Grant) { g.KeyType = keymanager.Sandbox },
		func(g *keymanager.Grant) { g.Subscriber = "x" },
		func(g *keymanager.Grant) { g.User = "x" },
		func(g *keymanager.Grant) { g.UserID = "x" },
		func(g *keymanager.Grant) { g.UserStore = "x" },
		func(g *keymanager.Grant) { g.UserType = "x" },
		func(g *keymanager.Grant) { g.Scopes = g.Scopes[:1] },
		func(g *keymanager.Grant) { g.Subscription = nil },
		func(g *keymanager.Grant) { g.Subscription.State = keymanager.Blocked },
		func(g *keymanager.Grant) { g.Subscription.Tier = "x" },
		func(g *keymanager.Grant) { g.Referers = []string{"x"} },
	} {
		g := grantFor(1)
		change(g)
		if s.share(g) != g {
			t.Errorf("change %d: two different grants became one", i)
		}
	}
}

// TestGrantsGo: what no verdict has any more takes no memory, and what one has is
// still shared.
func TestGrantsGo(t *testing.T) {
	s := newGrants()
	kept := s.share(grantFor(0))
	for i := range 1000 {
		s.share(grantFor(i))
	}
	for deadline := time.Now().Add(30 * time.Second); s.len() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d grants are remembered, want the one that is used", s.len())
		}
		runtime.GC() // its clean-ups run some time after it
	}
	if s.share(grantFor(0)) != kept {
		t.Error("a grant that is used is no longer shared")
	}
}

func TestMetrics(t *testing.T) {
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: grantFor(1)}, nil
	}}
	c, err := NewCap(CapOptions{Next: next, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	f := newFlight(t, c, 0)
	l := newLRU(t, f, newClock(), nil)
	for range 3 {
		if _, err := l.Validate(t.Context(), query("t")); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(l, f, c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"tollgate_authz_cache_lookups_total lru hit":      2,
		"tollgate_authz_cache_lookups_total lru miss":     1,
		"tollgate_authz_cache_entries lru":                1,
		"tollgate_authz_flight_total started":             1,
		"tollgate_authz_keymanager_calls_total ok":        1,
		"tollgate_authz_keymanager_seconds":               1,
		"tollgate_authz_cache_lookups_total negative hit": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %t), want %v", name, v, ok, want)
		}
	}
}

func BenchmarkLRUHit(b *testing.B) {
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return &keymanager.Verdict{Reason: keymanager.ReasonActive, Head: position(1), Grant: grantFor(1)}, nil
	}}
	l, err := NewLRU(LRUOptions{Next: next, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	var queries []keymanager.Query
	for i := range 1000 {
		queries = append(queries, query(fmt.Sprintf("tgat_%065d", i)))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := l.Validate(context.Background(), queries[i%len(queries)]); err != nil {
				b.Error(err)
			}
		}
	})
}
