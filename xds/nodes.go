package xds

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"tollgate/keymanager"
)

// forgetNode is how long a node that has gone is still reported.
const forgetNode = 10 * time.Minute

// nodeRecord is one Envoy by its node id.
type nodeRecord struct {
	keymanager.NodeState
	seen time.Time // connected at
}

// groupState is what a group says of itself.
type groupState struct {
	confirmed keymanager.Position
	nodes     []keymanager.NodeState
	rejected  []keymanager.RejectedResource
	apis      int
}

// mark begins a position of the catalog. Marks without work join the one
// before: an idle catalog sends a position each second.
func (g *group) mark(at keymanager.Position) *mark {
	if n := len(g.marks); n > 0 && g.marks[n-1].open == 0 && g.marks[n-1].seq >= g.seq {
		g.marks[n-1].at = at
		return g.marks[n-1]
	}
	m := &mark{at: at, seq: g.seq}
	g.marks = append(g.marks, m)
	return m
}

// settleMarks forgets the positions that every Envoy has.
func (g *group) settleMarks() {
	low := g.log.confirmed()
	for len(g.marks) > 0 && g.marks[0].open == 0 && g.marks[0].seq <= low {
		g.base = *g.marks[0]
		g.marks = g.marks[1:]
	}
}

// positionAt returns the catalog's position that is in effect at an Envoy which
// has acknowledged seq.
func (g *group) positionAt(seq uint64) keymanager.Position {
	var at keymanager.Position
	if seq >= g.base.seq {
		at = g.base.at
	}
	for _, m := range g.marks {
		if m.open > 0 || m.seq > seq {
			break
		}
		at = m.at
	}
	return at
}

// publishState shows the reporter what has changed.
func (g *group) publishState() {
	now := g.opts.Now()
	for _, n := range g.nodes {
		n.Connected = false
	}
	for _, o := range g.log.observe() {
		n := g.nodes[o.node]
		if n == nil {
			n = &nodeRecord{}
			g.nodes[o.node] = n
		}
		n.NodeState = keymanager.NodeState{
			ID: o.node, Group: g.Name, Version: o.version, Connected: true, Acknowledged: n.Acknowledged,
		}
		n.seen = now
		if at := g.positionAt(o.acknowledged); at != (keymanager.Position{}) {
			n.Acknowledged = at
		}
		for _, r := range o.refused {
			n.Rejected = append(n.Rejected, keymanager.RejectedResource{
				Node: o.node, Type: r.kind.url(), Name: r.name, API: g.culprit(r.kind, r.name), Reason: r.reason, Since: r.since,
			})
		}
	}
	if g.verdicts {
		g.verdicts = false
		g.listed = nil
		for _, id := range slices.Sorted(maps.Keys(g.rejected)) {
			g.listed = append(g.listed, *g.rejected[id].bad)
		}
	}
	st := groupState{confirmed: g.base.at, apis: len(g.members), rejected: g.listed}
	for id, n := range g.nodes {
		if !n.Connected && now.Sub(n.seen) > forgetNode {
			delete(g.nodes, id)
			continue
		}
		st.nodes = append(st.nodes, n.NodeState)
	}
	slices.SortFunc(st.nodes, func(a, b keymanager.NodeState) int { return strings.Compare(a.ID, b.ID) })
	g.mu.Lock()
	g.state = st
	g.mu.Unlock()
	g.log.metrics.state(g.Name, st)
	select {
	case g.stated <- struct{}{}:
	default:
	}
}

// culprit names the API behind a resource: its own, or the one of a table that
// changed last.
func (g *group) culprit(k kind, name string) keymanager.APIID {
	switch k {
	case clusters:
		return apiOf(name)
	case scopes:
		var latest *plan
		if s := g.segments[g.segmentOf(name)]; s != nil {
			for _, mb := range s.members {
				if compareRev(latest, mb.live) < 0 {
					latest = mb.live
				}
			}
		}
		if latest != nil {
			return latest.id
		}
	}
	return ""
}

// observation is one connected Envoy as the log sees it.
type observation struct {
	node, version string
	acknowledged  uint64 // of every kind
	refused       []observedRefusal
}

type observedRefusal struct {
	kind   kind
	name   string
	reason string
	since  time.Time
}

func (l *changeLog) observe() []observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []observation
	for _, st := range l.streams {
		o := observation{node: st.node, version: st.version, acknowledged: l.seq}
		for k := range kinds {
			o.acknowledged = min(o.acknowledged, l.acknowledgedBy(st, k))
			for name, r := range st.feeds[k].refused {
				o.refused = append(o.refused, observedRefusal{k, name, r.reason, r.since})
			}
		}
		slices.SortFunc(o.refused, func(a, b observedRefusal) int { return strings.Compare(a.name, b.name) })
		out = append(out, o)
	}
	return out
}

// confirmed returns the position that every connected Envoy has answered for.
func (l *changeLog) confirmed() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	low := l.seq
	for k := range kinds {
		low = min(low, l.acknowledgedLocked(k))
	}
	return low
}

// report tells Gateways on every change and at least each second.
func (s *Server) report(ctx context.Context) error {
	if s.opts.Gateways == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, g := range s.groups {
			if err := s.opts.Gateways.Report(ctx, s.stateOf(g)); err != nil && ctx.Err() == nil {
				s.opts.Logger.Warn("the key manager does not take the report", "group", g.Name, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stated:
		case <-tick.C:
		}
	}
}

func (s *Server) stateOf(g *group) keymanager.GatewayState {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	out := keymanager.GatewayState{
		Kind: keymanager.GatewayXDS, ID: s.opts.ID, Group: g.Name, Phase: s.phase(g),
		Confirmed: st.confirmed, Nodes: st.nodes, Rejected: st.rejected,
	}
	if len(s.groups) > 1 {
		out.ID += "/" + g.Name // (Kind, ID) is the key of a report
	}
	return out
}

// phase: without the catalog Envoys keep what they have, so there is no BLIND.
func (s *Server) phase(g *group) keymanager.GatewayPhase {
	select {
	case <-g.loaded:
	default:
		return keymanager.PhaseSyncing
	}
	if s.opts.Now().Sub(time.Unix(0, s.heard.Load())) > s.opts.StaleAfter {
		return keymanager.PhaseStale
	}
	return keymanager.PhaseLive
}
