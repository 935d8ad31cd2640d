package authz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/keymanager"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(16)
		var taken []int
		for range 16 {
			cell, ok := g.enter(t.Context())
			if !ok {
				t.Fatalf("no place after %d of 16", len(taken))
			}
			taken = append(taken, cell)
		}
		begun := time.Now()
		if _, ok := g.enter(t.Context()); ok || time.Since(begun) != gateWait {
			t.Errorf("a 17th: %t after %s", ok, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, ok := g.enter(ctx); ok {
			t.Error("who has no time waits on")
		}
		begun = time.Now()
		if _, ok := g.enter(ctx); ok || time.Since(begun) != 0 {
			t.Error("whose time is over waits")
		}
		time.AfterFunc(gateStep, func() { g.leave(taken[0]) })
		if cell, ok := g.enter(t.Context()); !ok {
			t.Error("a place that becomes free is not taken")
		} else {
			g.leave(cell)
		}
		for _, cell := range taken[1:] {
			g.leave(cell)
		}
		if n := g.inside(); n != 0 {
			t.Errorf("%d places are lost", n)
		}
	})
}

// TestOnlySoManyWaitAtTheGate: more than have places are refused at once.
func TestOnlySoManyWaitAtTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(8)
		for range 8 {
			g.enter(t.Context())
		}
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() { g.enter(t.Context()) })
		}
		synctest.Wait()
		begun := time.Now()
		if _, ok := g.enter(t.Context()); ok || time.Since(begun) != 0 {
			t.Errorf("%t after %s", ok, time.Since(begun))
		}
		wait.Wait()
	})
}

// TestShedding: what is beyond the limit is an outage with Retry-After, and
// leaves no trace.
func TestShedding(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxConcurrentChecks = 8 }).run(t)
	r.grant(nil)
	release := make(chan struct{})
	r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		<-release
		return nil, errors.New("late")
	})
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			r.check(t, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + goodToken + fmt.Sprint(i)}})
		})
	}
	eventually(t, "full", func() bool { return r.server.gate.inside() == 8 })
	m := r.check(t, call{path: envoyPath + "/public"})
	if got := see(t, m); got != (seen{503, "900900", "overloaded", true}) {
		t.Errorf("%+v", got)
	}
	retry := ""
	for _, h := range m.GetErrorResponse().GetHeaders() {
		if h.GetHeader().GetKey() == "retry-after" {
			retry = h.GetHeader().GetValue() + string(h.GetHeader().GetRawValue())
		}
	}
	if retry < "1" || retry > "5" {
		t.Errorf("Retry-After is %q", retry)
	}
	close(release)
	wait.Wait()
	if got := see(t, r.check(t, call{path: envoyPath + "/public"})); got.status != 200 || r.server.gate.inside() != 0 {
		t.Errorf("afterwards: %+v, %d inside", got, r.server.gate.inside())
	}
}
