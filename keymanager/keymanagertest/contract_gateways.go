package keymanagertest

import (
	"context"
	"strings"
	"testing"

	"tollgate/keymanager"
)

var gatewayCases = []testCase{
	{"a report replaces the last of the same part", func(t *testing.T, s *Subject) {
		pos := s.World.Stale(t, keymanager.Stale{Application: "x"})
		node := keymanager.NodeState{ID: "n", Connected: true, Acknowledged: pos,
			Rejected: []keymanager.RejectedResource{{Node: "n", Type: "t", Name: "r", API: "a", Reason: "no"}}}
		report := keymanager.GatewayState{Kind: keymanager.GatewayXDS, ID: "1", Group: "g", Phase: keymanager.PhaseSyncing,
			Nodes: []keymanager.NodeState{node}, Rejected: []keymanager.RejectedResource{{API: "a", Reason: "no"}}}
		for _, r := range []keymanager.GatewayState{report, {Kind: keymanager.GatewayAuthz, ID: "1", Phase: keymanager.PhaseLive, Confirmed: pos}} {
			if err := s.Gateways.Report(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		report.Phase, report.Confirmed = keymanager.PhaseLive, pos
		if err := s.Gateways.Report(t.Context(), report); err != nil {
			t.Fatal(err)
		}
		report.Nodes[0], report.Rejected[0] = keymanager.NodeState{}, keymanager.RejectedResource{} // the caller's again
		states := s.World.States(t)
		if len(states) != 2 {
			t.Fatalf("states are %+v, want two parts", states)
		}
		for _, got := range states {
			if got.At.IsZero() || got.Phase != keymanager.PhaseLive || got.Confirmed != pos {
				t.Errorf("state is %+v", got)
			}
			if got.Kind == keymanager.GatewayXDS && (len(got.Nodes) != 1 || got.Nodes[0].ID != "n" || len(got.Nodes[0].Rejected) != 1) {
				t.Errorf("nodes are %+v", got.Nodes)
			}
			if got.Kind == keymanager.GatewayXDS && (len(got.Rejected) != 1 || got.Rejected[0].API != "a") {
				t.Errorf("rejected is %+v", got.Rejected)
			}
		}
	}},
	{"a report from nobody is refused", func(t *testing.T, s *Subject) {
		for _, r := range []keymanager.GatewayState{
			{}, {Kind: keymanager.GatewayAuthz}, {ID: "1"}, {Kind: "portal", ID: "1"},
			{Kind: keymanager.GatewayXDS, ID: strings.Repeat("x", 1000)},
		} {
			if err := s.Gateways.Report(t.Context(), r); keymanager.KindOf(err) != keymanager.KindInvalid || err == nil {
				t.Errorf("%.40q/%.10q: %v, want an error of input", r.Kind, r.ID, err)
			}
		}
		if got := s.World.States(t); len(got) != 0 {
			t.Errorf("states are %+v", got)
		}
	}},
	{"no time left", func(t *testing.T, s *Subject) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Gateways.Report(ctx, keymanager.GatewayState{Kind: keymanager.GatewayAuthz, ID: "1"}); err == nil {
			t.Error("reported")
		}
	}},
}
