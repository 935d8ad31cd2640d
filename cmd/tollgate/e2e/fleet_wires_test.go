//go:build faults

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// The network between every pair of parts is slow, loses everything, resets,
// and closes late, under load. What the gateways know they decide as if nothing
// were; nobody is let through or turned away who should not be; and when the
// network is well again, so is everything, by itself.
func TestFaultFleetNetwork(t *testing.T) {
	w := newWorld(t, nil)
	load := rig.StartLoad(t, 100, w.shots())
	load.Flows(5, nil)
	leaks := w.leaks(t)
	for _, pair := range []struct {
		from, to string
		felt     func(*world, *testing.T) error // that nothing comes through
	}{
		{"keymanager", "postgres", noToken}, {"authz", "redis", redisGivenUp}, {"authz", "keymanager", coldUndecided},
		{"xds", "keymanager", catalogLost}, {"envoy", "xds", noControlPlane}, {"envoy", "web", noTokenThrough},
	} {
		wires := w.between(pair.from, pair.to)
		if len(wires) < 2 {
			t.Fatalf("%d wires from %s to %s", len(wires), pair.from, pair.to)
		}
		for _, fault := range []struct {
			name   string
			begin  func(*rig.Wire)
			usable bool // work goes on over it, only slower
			dead   bool // nothing comes through
		}{
			{"a latency of 20 ms", func(w *rig.Wire) { w.Delay(20 * time.Millisecond) }, true, false},
			{"a latency of 2 s", func(w *rig.Wire) { w.Delay(2 * time.Second) }, false, false},
			{"a black hole", (*rig.Wire).BlackHole, false, true},
			{"resets", (*rig.Wire).Reset, false, true},
			{"a slow close", func(w *rig.Wire) { w.SlowClose(2 * time.Second) }, true, false},
			{"slices", (*rig.Wire).Slice, true, false},
			{"nothing there", (*rig.Wire).Cut, false, true},
		} {
			t.Run(pair.from+" to "+pair.to+", "+fault.name, func(t *testing.T) {
				from := time.Now()
				for _, wire := range wires {
					fault.begin(wire)
				}
				if fault.dead {
					rig.Eventually(t, "the fault is felt", func() error { return pair.felt(w, t) })
				}
				load.Flows(10, hot)
				if fault.usable {
					w.issueAndRevoke(t, nil, w.Gateways)
				}
				for _, wire := range wires {
					wire.Heal()
				}
				load.Flows(5, nil)
				w.healed(t)
				load.NoneWrong(from)
				load.AllRight(from, hot)
				t.Log(load.Summary(from))
			})
		}
	}
	leaks()
	load.End()
}

// healed waits until a token is issued and revoked everywhere as ever.
func (w *world) healed(t *testing.T) {
	t.Helper()
	rig.Eventually(t, "a token", func() error {
		if a := w.askToken(t); a.Status != http.StatusOK {
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
	for _, gateway := range w.Gateways {
		rig.Eventually(t, "a token through "+gateway, func() error {
			a, err := w.tokenThrough(t, gateway)
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
	}
	w.issueAndRevoke(t, nil, w.Gateways)
}

// tokenThrough asks for a token at the endpoint behind a gateway.
func (w *world) tokenThrough(t *testing.T, gateway string) (rig.Answer, error) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return w.client.PostWith(t, client, "http://"+gateway+"/oauth2/token", forToken)
}

// The other ways in which a dead wire is felt.

func redisGivenUp(w *world, t *testing.T) error {
	cold := w.Issue(t, w.client)
	for i, gateway := range w.Gateways {
		a, err := call(gateway, shopItems, cold)
		if err != nil || a.Status != http.StatusOK {
			t.Errorf("a new token without Redis: %d %s %v", a.Status, a.Body, err)
		}
		if a, err = rig.Do(http.MethodGet, "http://"+w.Authz[i].Ops+"/metrics"); err != nil || !strings.Contains(a.Body, "\ntollgate_redis_up 0\n") {
			return fmt.Errorf("%s counts on Redis (%v)", w.Authz[i].Name, err)
		}
	}
	return nil
}

func coldUndecided(w *world, t *testing.T) error {
	cold := w.Issue(t, w.client)
	for _, gateway := range w.Gateways {
		a, err := call(gateway, shopItems, cold)
		if err != nil || a.Status != http.StatusServiceUnavailable || a.Code() != "900900" {
			return fmt.Errorf("a new token is answered %d %s %v", a.Status, a.Body, err)
		}
	}
	return nil
}

func noTokenThrough(w *world, t *testing.T) error {
	for _, gateway := range w.Gateways {
		if a, err := w.tokenThrough(t, gateway); err == nil && a.Status < http.StatusInternalServerError {
			return fmt.Errorf("a token is answered %d at %s", a.Status, gateway)
		}
	}
	return nil
}

func catalogLost(w *world, _ *testing.T) error {
	for _, n := range w.XDS {
		a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/metrics")
		if err != nil || !strings.Contains(a.Body, `phase="STALE"} 1`) {
			return fmt.Errorf("%s does not know that it has lost the key managers (%v)", n.Name, err)
		}
	}
	return nil
}

func noControlPlane(w *world, _ *testing.T) error {
	for _, n := range w.Envoys {
		a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/stats?filter=control_plane.connected_state")
		if err != nil || !strings.Contains(a.Body, "connected_state: 0") {
			return fmt.Errorf("%s: %s %v", n.Name, a.Body, err)
		}
	}
	return nil
}
