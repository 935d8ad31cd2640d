package xds

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tollgate/keymanager"
)

const (
	// forgetNode is how long a node that has gone is still reported.
	forgetNode = 10 * time.Minute
	// lingers is how long the stream of an Envoy that was killed may stay beside
	// the one of its successor: longer than a connection without an answer.
	lingers = time.Minute
	// nodeType is the type of what is wrong with a node itself.
	nodeType = "type.googleapis.com/envoy.config.core.v3.Node"
)

// nodeRecord is one Envoy by its node id.
type nodeRecord struct {
	keymanager.NodeState
	seen time.Time // connected at
}

// turnedAway is an Envoy that was refused, as it calls itself or as its
// certificate does.
type turnedAway struct {
	version, reason string
	since, last     time.Time
}

// turnAway notes why a node is refused: an operator looks for it among the
// gateways.
func (g *group) turnAway(node, version, reason string) {
	now := g.opts.Now()
	g.mu.Lock()
	old, known := g.away[node]
	if known || len(g.away) < remembered {
		if !known || old.reason != reason {
			old.since = now
		}
		g.away[node] = turnedAway{version: version, reason: reason, since: old.since, last: now}
	}
	g.mu.Unlock()
	g.log.wake()
}

// admitted forgets that a node was refused.
func (g *group) admitted(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.away, node)
}

// aboutNode is what is wrong with a node itself.
func aboutNode(node, reason string, since time.Time) keymanager.RejectedResource {
	return keymanager.RejectedResource{Node: node, Type: nodeType, Name: node, Reason: reason, Since: since}
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
		if o.streams > 1 && now.Sub(o.second) > lingers {
			n.Rejected = append(n.Rejected, aboutNode(o.node, strconv.Itoa(o.streams)+" Envoys are connected under this node id; each needs its own", o.second))
		}
		for _, r := range o.refused {
			n.Rejected = append(n.Rejected, keymanager.RejectedResource{
				Node: o.node, Type: r.kind.url(), Name: r.name, API: g.culprit(r.kind, r.name), Reason: r.reason, Since: r.since,
			})
		}
	}
	g.turnedAway(now)
	if g.verdicts {
		g.verdicts = false
		g.listed = nil
		for _, id := range slices.Sorted(maps.Keys(g.rejected)) {
			g.listed = append(g.listed, *g.rejected[id].bad)
		}
	}
	st := groupState{confirmed: g.base.at, apis: len(g.members), rejected: g.listed}
	if bad := g.certificateProblems(); len(bad) > 0 {
		st.rejected = slices.Concat(bad, st.rejected)
	}
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

// turnedAway reports the Envoys that are refused. One that is connected too is
// shown as that: the other may be a stranger that took its name.
func (g *group) turnedAway(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for node, a := range g.away {
		if now.Sub(a.last) > forgetNode {
			delete(g.away, node)
			continue
		}
		n := g.nodes[node]
		if n == nil {
			n = &nodeRecord{NodeState: keymanager.NodeState{ID: node, Group: g.Name}}
			g.nodes[node] = n
		}
		if !n.Connected {
			n.Rejected = nil
			if a.version != "" {
				n.Version = a.version
			}
		}
		n.seen = now
		n.Rejected = append(n.Rejected, aboutNode(node, a.reason, a.since))
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

// observation is one node as the log sees it.
type observation struct {
	node, version string
	acknowledged  uint64 // of every kind
	refused       []observedRefusal
	streams       int       // under this id
	second        time.Time // when the second of them came
}

type observedRefusal struct {
	kind   kind
	name   string
	reason string
	since  time.Time
}

// observe returns the connected nodes. What several streams of one id say is
// taken together: everything up to what all of them have.
func (l *changeLog) observe() []*observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	byNode := map[string]*observation{}
	for _, id := range slices.Sorted(maps.Keys(l.streams)) { // in the order in which they came
		st := l.streams[id]
		o := byNode[st.node]
		if o == nil {
			o = &observation{node: st.node, acknowledged: l.seq}
			byNode[st.node] = o
		}
		o.version = st.version
		if o.streams++; o.streams == 2 {
			o.second = st.opened
		}
		for k := range kinds {
			o.acknowledged = min(o.acknowledged, l.acknowledgedBy(st, k))
			for name, r := range st.feeds[k].refused {
				o.refused = append(o.refused, observedRefusal{k, name, r.reason, r.since})
			}
		}
	}
	out := slices.Collect(maps.Values(byNode))
	for _, o := range out {
		slices.SortFunc(o.refused, func(a, b observedRefusal) int { return strings.Compare(a.name, b.name) })
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
			s.metrics.phase(g.Name, s.phase(g))
		}
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
	if heard := s.heard.Load(); heard != nil {
		out.Lag = max(0, s.opts.Now().Sub(*heard))
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
	if heard := s.heard.Load(); heard == nil || s.opts.Now().Sub(*heard) > s.opts.StaleAfter {
		return keymanager.PhaseStale
	}
	return keymanager.PhaseLive
}
