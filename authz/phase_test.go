package authz

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// clock stands still until it is moved.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.nanos.Store(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// clockRig is a rig on one clock, its key manager's too.
func clockRig(t *testing.T, change func(*Options)) (*rig, *clock) {
	c := newClock()
	var km *keymanagertest.KeyManager
	r := newRig(t, func(o *Options) {
		km = keymanagertest.New(keymanagertest.Options{Now: c.Now}, petsAPI())
		o.Validator, o.Uncached, o.Catalog, o.Revocations, o.Gateways, o.Now = km, km, km, km, km, c.Now
		if change != nil {
			change(o)
		}
	})
	r.km = km
	return r, c
}

func TestPhases(t *testing.T) {
	r, c := clockRig(t, func(o *Options) { o.MaxStale = 10 * time.Second })
	public := func() seen { return see(t, r.check(t, call{path: envoyPath + "/public"})) }
	if got := r.server.phase(c.Now()); got != keymanager.PhaseSyncing || r.server.Ready() == nil || public().reason != "syncing" {
		t.Errorf("before Run: %s, %v", got, r.server.Ready())
	}
	r.run(t)
	reported := func(phase keymanager.GatewayPhase) {
		t.Helper()
		eventually(t, "reported "+string(phase), func() bool {
			s, ok := r.km.Reported(keymanager.GatewayAuthz, "authz-1")
			return ok && s.Phase == phase && s.Confirmed == r.km.Head()
		})
	}
	reported(keymanager.PhaseLive)
	r.km.Mute(true)
	for _, tt := range []struct {
		after  time.Duration
		phase  keymanager.GatewayPhase
		status int
		ready  bool
	}{
		{3 * time.Second, keymanager.PhaseLive, 200, true},
		{time.Millisecond, keymanager.PhaseStale, 200, true},
		{7*time.Second - time.Millisecond, keymanager.PhaseStale, 200, true},
		{time.Millisecond, keymanager.PhaseBlind, 503, false},
		{time.Hour, keymanager.PhaseBlind, 503, false},
	} {
		c.advance(tt.after)
		got := public()
		if p := r.server.phase(c.Now()); p != tt.phase || got.status != tt.status || (r.server.Ready() == nil) != tt.ready {
			t.Errorf("after %s: %s, %+v, %v", tt.after, p, got, r.server.Ready())
		}
		if tt.status == 503 && got != (seen{503, "900900", "blind", true}) {
			t.Errorf("after %s: %+v", tt.after, got)
		}
	}
	reported(keymanager.PhaseBlind)
	r.km.Mute(false)
	r.km.Beat()
	reported(keymanager.PhaseLive)
	if got := public(); got.status != 200 {
		t.Errorf("in touch again: %+v", got)
	}
}

// TestOneSilentStreamIsEnough: knowing one half is not knowing.
func TestOneSilentStreamIsEnough(t *testing.T) {
	r, c := clockRig(t, nil)
	r.run(t)
	r.server.contact.catalog.complete.Store(int64(time.Hour))
	c.advance(time.Hour)
	if p := r.server.phase(c.Now()); p != keymanager.PhaseBlind {
		t.Errorf("with silent revocations: %s", p)
	}
	r.server.contact.revocations.complete.Store(int64(time.Hour))
	if p := r.server.phase(c.Now()); p != keymanager.PhaseLive {
		t.Errorf("with both: %s", p)
	}
	r.server.contact.catalog.complete.Store(0)
	if p := r.server.phase(c.Now()); p != keymanager.PhaseBlind {
		t.Errorf("with a silent catalog: %s", p)
	}
}

func TestClockSkew(t *testing.T) {
	r, _ := clockRig(t, nil)
	r.run(t)
	for skew, ready := range map[time.Duration]bool{0: true, time.Minute: true, -time.Minute: true, 61 * time.Second: false, -61 * time.Second: false} {
		r.server.contact.told(r.server.now().Add(skew), r.server.now())
		if err := r.server.Ready(); (err == nil) != ready {
			t.Errorf("%s: %v", skew, err)
		}
	}
}

// TestStreamsAreOpenedAgain: what was missed comes, whatever happened to the
// stream.
func TestStreamsAreOpenedAgain(t *testing.T) {
	r := newRig(t, nil).run(t)
	for name, harm := range map[string]func(){
		"broken":      r.km.Break,
		"down":        func() { r.km.Down(errors.New("down")); r.km.SetAPI(petsAPI()); r.km.Down(nil) },
		"pruned":      func() { r.km.Break(); r.km.Kill(keymanager.Dead{TokenID: keymanager.TokenID{9}}); r.km.Prune() },
		"new epoch":   func() { r.km.NewEpoch() },
		"all at once": func() { r.km.Break(); r.km.NewEpoch(); r.km.Break() },
	} {
		harm()
		moved := petsAPI()
		moved.Name = name
		r.settle(t, r.km.SetAPI(moved))
		if got := r.server.apis.Find("api-pets").Name; got != name {
			t.Errorf("%s: the API is %q", name, got)
		}
	}
}

// gapped loses one message of a catalog.
type gapped struct {
	keymanager.Catalog
	lose atomic.Bool
}

func (g *gapped) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	return g.Catalog.Watch(ctx, from, kinds, func(c keymanager.Change) error {
		if c.API != nil && g.lose.CompareAndSwap(true, false) {
			return nil
		}
		return fn(c)
	})
}

func TestGapIsSeen(t *testing.T) {
	var g *gapped
	r := newRig(t, func(o *Options) { g = &gapped{Catalog: o.Catalog}; o.Catalog = g }).run(t)
	g.lose.Store(true)
	lost := petsAPI()
	lost.Name = "lost"
	r.km.SetAPI(lost)
	eventually(t, "the message is lost", func() bool { return !g.lose.Load() })
	other := petsAPI()
	other.ID, other.Context = "api-other", "/other"
	r.settle(t, r.km.SetAPI(other))
	if got := r.server.apis.Find("api-pets").Name; got != "lost" {
		t.Errorf("what was lost never came: the API is %q", got)
	}
}

// panics is a catalog whose first stream panics.
type panics struct {
	keymanager.Catalog
	done atomic.Bool
}

func (p *panics) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	if p.done.CompareAndSwap(false, true) {
		panic("bug")
	}
	return p.Catalog.Watch(ctx, from, kinds, fn)
}

func TestPanicInAStream(t *testing.T) {
	newRig(t, func(o *Options) { o.Catalog = &panics{Catalog: o.Catalog} }).run(t)
}

// TestReports: every change is reported without waiting for the next second,
// and a report that failed is repeated.
func TestReports(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Group = "edge" }).run(t)
	for range 20 {
		p := r.km.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1}})
		eventually(t, "confirmed", func() bool {
			s, ok := r.km.Reported(keymanager.GatewayAuthz, "authz-1")
			return ok && s.Confirmed.Reached(p) && s.Group == "edge" && s.Phase == keymanager.PhaseLive
		})
	}
	before := r.km.Reports()
	eventually(t, "reported again though nothing changed", func() bool { return r.km.Reports() > before })
}

// TestReadySaysWhatIsMissing names each part.
func TestReadySaysWhatIsMissing(t *testing.T) {
	err := newRig(t, nil).server.Ready()
	for _, part := range []string{"catalog", "revocations"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no options are taken")
	}
	full := func() Options {
		var o Options
		newRig(t, func(have *Options) { o = *have })
		return o
	}
	for name, change := range map[string]func(*Options){
		"ID":          func(o *Options) { o.ID = "" },
		"Validator":   func(o *Options) { o.Validator = nil },
		"Uncached":    func(o *Options) { o.Uncached = nil },
		"Catalog":     func(o *Options) { o.Catalog = nil },
		"Revocations": func(o *Options) { o.Revocations = nil },
		"Gateways":    func(o *Options) { o.Gateways = nil },
		"Tags":        func(o *Options) { o.Tags = nil },
		"Now":         func(o *Options) { o.Now = nil },
		"Logger":      func(o *Options) { o.Logger = nil },
		"MaxStale":    func(o *Options) { o.MaxStale = -1 },
		"CatalogWait": func(o *Options) { o.CatalogWait = -1 },
	} {
		o := full()
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("a bad %s is taken", name)
		}
	}
}
