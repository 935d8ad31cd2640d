//go:build faults

package e2e

import (
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
	for _, pair := range []struct{ from, to string }{
		{"keymanager", "postgres"}, {"authz", "redis"}, {"authz", "keymanager"}, {"xds", "keymanager"}, {"envoy", "xds"},
	} {
		var wires []*rig.Wire
		for name, wire := range w.Wires {
			from, to, _ := strings.Cut(name, ">")
			if strings.HasPrefix(from, pair.from) && strings.HasPrefix(to, pair.to) {
				wires = append(wires, wire)
			}
		}
		if len(wires) < 2 {
			t.Fatalf("%d wires from %s to %s", len(wires), pair.from, pair.to)
		}
		for _, fault := range []struct {
			name   string
			begin  func(*rig.Wire)
			usable bool // work goes on over it, only slower
		}{
			{"a latency of 20 ms", func(w *rig.Wire) { w.Delay(20 * time.Millisecond) }, true},
			{"a latency of 2 s", func(w *rig.Wire) { w.Delay(2 * time.Second) }, false},
			{"a black hole", (*rig.Wire).BlackHole, false},
			{"resets", (*rig.Wire).Reset, false},
			{"a slow close", func(w *rig.Wire) { w.SlowClose(2 * time.Second) }, true},
			{"slices", (*rig.Wire).Slice, true},
			{"nothing there", (*rig.Wire).Cut, false},
		} {
			t.Run(pair.from+" to "+pair.to+", "+fault.name, func(t *testing.T) {
				from := time.Now()
				for _, wire := range wires {
					fault.begin(wire)
				}
				load.Flows(20, nil)
				if fault.usable {
					w.issueAndRevoke(t, nil, w.Gateways)
				}
				for _, wire := range wires {
					wire.Heal()
				}
				w.issueAndRevoke(t, nil, w.Gateways)
				load.Flows(5, nil)
				load.NoneWrong(from)
				load.AllRight(from, nil) // these are hot
				t.Log(load.Summary(from))
			})
		}
	}
	load.End()
}
