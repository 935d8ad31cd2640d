package publish_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/publish"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func at(seq uint64) keymanager.Position {
	return keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: seq}
}

func newGateways(t *testing.T, silence time.Duration) (*publish.Gateways, *clock) {
	t.Helper()
	c := &clock{now: time.Unix(1e9, 0)}
	g, err := publish.NewGateways(publish.GatewaysOptions{Now: c.Now, Silence: silence})
	if err != nil {
		t.Fatal(err)
	}
	return g, c
}

func report(t *testing.T, g *publish.Gateways, s keymanager.GatewayState) {
	t.Helper()
	if err := g.Report(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func authz(id string, seq uint64) keymanager.GatewayState {
	return keymanager.GatewayState{Kind: keymanager.GatewayAuthz, ID: id, Confirmed: at(seq)}
}

func xds(seq uint64, nodes ...keymanager.NodeState) keymanager.GatewayState {
	return keymanager.GatewayState{Kind: keymanager.GatewayXDS, ID: "x", Confirmed: at(seq), Nodes: nodes}
}

func node(id string, connected bool, seq uint64) keymanager.NodeState {
	return keymanager.NodeState{ID: id, Connected: connected, Acknowledged: at(seq)}
}

// ended is a context that has ended, for a look at once.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestWaitAtOnce(t *testing.T) {
	foreign := authz("a", 5)
	foreign.Confirmed.Epoch[0]++
	for _, tt := range []struct {
		name    string
		states  []keymanager.GatewayState
		pos     keymanager.Position
		missing string // "" = nobody
	}{
		{"nobody", nil, at(5), ""},
		{"no position", []keymanager.GatewayState{authz("a", 0)}, keymanager.Position{}, ""},
		{"confirmed", []keymanager.GatewayState{authz("a", 5), authz("b", 6)}, at(5), ""},
		{"one behind", []keymanager.GatewayState{authz("a", 5), authz("b", 4)}, at(5), `authz "b"`},
		{"another epoch", []keymanager.GatewayState{foreign}, at(5), `authz "a"`},
		{"xds behind", []keymanager.GatewayState{xds(4)}, at(5), `xds "x"`},
		{"xds without Envoy", []keymanager.GatewayState{xds(5)}, at(5), ""},
		{"Envoy has it", []keymanager.GatewayState{xds(5, node("n", true, 5))}, at(5), ""},
		{"Envoy is behind", []keymanager.GatewayState{xds(5, node("m", true, 5), node("n", true, 4))}, at(5), `envoy "n"`},
		{"Envoy is gone", []keymanager.GatewayState{xds(5, node("n", false, 4))}, at(5), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, _ := newGateways(t, 0)
			for _, s := range tt.states {
				report(t, g, s)
			}
			err := g.Wait(ended(t), tt.pos)
			if tt.missing == "" {
				if err != nil {
					t.Errorf("waits: %v", err)
				}
				return
			}
			if keymanager.KindOf(err) != keymanager.KindUnavailable || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), tt.missing) {
				t.Errorf("%v, want that %s is missing", err, tt.missing)
			}
		})
	}
}

func TestWaitUntilConfirmed(t *testing.T) {
	g, _ := newGateways(t, time.Hour)
	report(t, g, authz("a", 1))
	report(t, g, xds(1, node("n", true, 1)))
	const waiters = 10
	done := make(chan error, waiters)
	for range waiters {
		go func() { done <- g.Wait(t.Context(), at(2)) }()
	}
	for _, s := range []keymanager.GatewayState{authz("a", 2), xds(2, node("n", true, 1)), authz("a", 3)} {
		report(t, g, s)
		if err := g.Wait(ended(t), at(2)); err == nil {
			t.Fatalf("does not wait after %+v", s)
		}
	}
	report(t, g, xds(2, node("n", true, 2)))
	for range waiters {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A report wakes whoever waits. Nothing shows that a waiter already waits, so
// that there are many turns.
func TestReportWakes(t *testing.T) {
	g, _ := newGateways(t, time.Hour)
	report(t, g, authz("a", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for seq := uint64(2); seq < 500; seq++ {
		started, done := make(chan struct{}), make(chan error, 1)
		go func() {
			close(started)
			done <- g.Wait(ctx, at(seq))
		}()
		<-started
		runtime.Gosched()
		report(t, g, authz("a", seq))
		if err := <-done; err != nil {
			t.Fatalf("turn %d: %v", seq, err)
		}
	}
}

func TestSilentPartIsGone(t *testing.T) {
	g, c := newGateways(t, 5*time.Second)
	report(t, g, authz("a", 1))
	c.add(3 * time.Second)
	report(t, g, authz("b", 2))
	if got := g.States(); len(got) != 2 || got[0].ID != "a" || !got[0].At.Equal(time.Unix(1e9, 0)) || !got[1].At.Equal(c.Now()) {
		t.Fatalf("states are %+v", got)
	}
	if err := g.Wait(ended(t), at(2)); err == nil {
		t.Error("does not wait for a")
	}
	c.add(3 * time.Second)
	got := g.States()
	if len(got) != 2 || got[0].ID != "a" || got[0].Phase != keymanager.PhaseGone || got[0].Lag != 6*time.Second || got[1].Phase == keymanager.PhaseGone {
		t.Errorf("states are %+v, want a gone for 6 s, and b", got)
	}
	if err := g.Wait(ended(t), at(2)); err != nil {
		t.Errorf("waits for one that is gone: %v", err)
	}
	report(t, g, authz("a", 3))
	if got := g.States(); len(got) != 2 || got[0].ID != "a" || got[0].Phase == keymanager.PhaseGone {
		t.Errorf("states are %+v, want that a is back", got)
	}
	c.add(time.Hour - time.Minute)
	if got := g.States(); len(got) != 2 {
		t.Errorf("states are %+v, want both gone", got)
	}
	c.add(time.Hour)
	if got := g.States(); len(got) != 0 {
		t.Errorf("states are %+v, want that both are forgotten", got)
	}
}

// What a part said of Envoys and of refused APIs is not true of one that is gone.
func TestGoneKnowsNothing(t *testing.T) {
	g, c := newGateways(t, 5*time.Second)
	s := xds(1, node("n", true, 1))
	s.Rejected = []keymanager.RejectedResource{{API: "a"}}
	report(t, g, s)
	c.add(time.Minute)
	if got := g.States(); len(got) != 1 || got[0].Phase != keymanager.PhaseGone || len(got[0].Nodes)+len(got[0].Rejected) > 0 {
		t.Errorf("states are %+v", got)
	}
}

// A waiter notices that a part has fallen silent, without any report.
func TestWaitOutlastsSilence(t *testing.T) {
	g, err := publish.NewGateways(publish.GatewaysOptions{Now: time.Now, Silence: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	report(t, g, authz("a", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := g.Wait(ctx, at(2)); err != nil {
		t.Error(err)
	}
}

func TestStatesAreTheCallers(t *testing.T) {
	g, _ := newGateways(t, 0)
	report(t, g, xds(1, node("n", true, 1)))
	g.States()[0].Nodes[0].ID = "changed"
	if got := g.States()[0].Nodes[0].ID; got != "n" {
		t.Errorf("node is %q", got)
	}
}
