package xds

import (
	"errors"
	"slices"
	"strings"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// quarantine notes that an API's newest content is not in use.
func (g *group) quarantine(mb *member, k kind, name, node, reason string) {
	now := g.opts.Now()
	since := now
	if mb.bad != nil {
		since = mb.bad.Since // it was tried again
	}
	mb.bad = &keymanager.RejectedResource{
		Node: node, Type: k.url(), Name: name, API: mb.id, Reason: reason, Since: since,
	}
	mb.retryAt = now.Add(backOff(g.opts.RetryAfter, mb.tries))
	mb.tries++
	mb.retrying = false
	g.rejected[mb.id], g.verdicts = mb, true
	message := "API rejected; its last accepted routes stay"
	if mb.want == nil {
		message = "API rejected; it has no routes"
	}
	g.opts.Logger.Warn(message, "group", g.Name, "api", mb.id, "type", k.String(), "name", name, "node", node, "reason", reason)
}

// accept takes what Envoys have put into use: where a later refusal falls back
// to.
func (g *group) accept(accepted []acceptance) {
	for _, a := range accepted {
		switch a.kind {
		case clusters:
			if mb := g.members[apiOf(a.name)]; mb != nil && mb.live != nil {
				g.commend(mb, g.segment(mb.live.segment))
			}
		case scopes:
			if s := g.segments[g.segmentOf(a.name)]; s != nil && s.seq == a.seq {
				g.tableInUse(s)
			}
		}
	}
}

// tableInUse notes that an Envoy uses the table as it is.
func (g *group) tableInUse(s *segment) {
	s.inUse = true
	for _, mb := range s.members {
		g.commend(mb, s)
	}
}

// commend makes the live plan the one to fall back to, if an Envoy uses both
// its routes and its cluster.
func (g *group) commend(mb *member, s *segment) {
	if mb.good != mb.live && s.inUse && g.log.taken(mb.live.cluster) {
		mb.good = mb.live
		if mb.retrying && mb.want == mb.live {
			g.opts.Logger.Info("API accepted that was rejected before", "group", g.Name, "api", mb.id)
			g.clear(mb)
		}
		mb.forget()
	}
}

// refuse takes what Envoys did not accept when it came alone, and takes the
// change back that did it. A node that refuses what another has accepted stays
// where it is, and the group goes on.
func (g *group) refuse(refusals []refusal, dirty map[*segment]bool) []move {
	var out []move
	for _, r := range refusals {
		g.opts.Logger.Warn("Envoy refused a resource", "group", g.Name, "node", r.node,
			"type", r.kind.String(), "name", r.name, "others_accept", r.only, "reason", r.reason)
		if r.only {
			continue
		}
		switch r.kind {
		case clusters:
			out = append(out, g.refuseCluster(r, dirty)...)
		case scopes:
			out = append(out, g.refuseTable(r, dirty)...)
		}
	}
	return out
}

func (g *group) refuseCluster(r refusal, dirty map[*segment]bool) []move {
	mb := g.members[apiOf(r.name)]
	switch {
	case mb == nil:
	case dirty != nil && mb.live != nil && mb.live.cluster == r.name && (mb.good == nil || mb.good.cluster != r.name):
		return []move{g.fallBack(mb, r, dirty)}
	case mb.want != nil && mb.want != mb.live && mb.want.cluster == r.name:
		g.drop(mb, mb.want)
		mb.want = mb.live
		g.quarantine(mb, r.kind, r.name, r.node, r.reason)
	}
	return nil
}

// refuseTable finds the API that spoilt a table: it is among those that changed
// since the table was last accepted. If there are several, all go back and come
// in again one by one, each after the answer to the one before.
func (g *group) refuseTable(r refusal, dirty map[*segment]bool) []move {
	s := g.segments[g.segmentOf(r.name)]
	if s == nil || s.seq != r.now.seq {
		return nil // not an API's, or no longer what is there
	}
	var suspects []*member
	for _, mb := range s.members {
		if mb.live != mb.good {
			suspects = append(suspects, mb)
		}
	}
	if len(suspects) == 0 {
		return nil // nothing to take back
	}
	s.seq, s.inUse = 0, false // other Envoys refuse it too: once is enough
	if len(suspects) == 1 {
		return []move{g.fallBack(suspects[0], r, dirty)}
	}
	var out []move
	slices.SortFunc(suspects, func(a, b *member) int { return compareRev(a.live, b.live) })
	for _, mb := range suspects {
		from := mb.live
		g.setLive(mb, mb.good, dirty)
		mb.waits, mb.moving = true, true
		g.moving[mb] = true
		g.reopen(mb)
		if !slices.Contains(s.trials, mb) {
			s.trials = append(s.trials, mb)
		}
		out = append(out, move{member: mb, from: from, revert: true})
	}
	s.trial, g.trying[s] = nil, true
	return out
}

// reopen keeps back what is not confirmed yet until the member has settled
// again: Envoys have answered for its change, but none uses it.
func (g *group) reopen(mb *member) {
	if len(g.marks) == 0 || slices.Contains(mb.marks, g.marks[0]) {
		return
	}
	m := g.marks[0]
	m.open++
	mb.marks = append(mb.marks, m)
}

// fallBack returns a member to what was last accepted.
func (g *group) fallBack(mb *member, r refusal, dirty map[*segment]bool) move {
	refused := mb.live
	g.setLive(mb, mb.good, dirty)
	if mb.want == refused || r.kind == clusters && mb.want != nil && mb.want.cluster == r.name {
		mb.want = mb.good
		g.quarantine(mb, r.kind, r.name, r.node, r.reason)
	}
	mb.moving = true
	g.moving[mb] = true
	return move{member: mb, from: refused, revert: true}
}

// tryNext lets the next of several suspects into its table, when the one before
// is accepted, refused, or gone.
func (g *group) tryNext() {
	for s := range g.trying {
		if mb := s.trial; mb != nil {
			onItsWay := mb.moving && mb.want != mb.live
			inDoubt := mb.live != nil && mb.live.segment == s.name && mb.live != mb.good && !s.inUse
			if onItsWay || inDoubt {
				continue
			}
		}
		s.trial = nil
		if len(s.trials) == 0 {
			delete(g.trying, s)
			g.forgetSegment(s)
			continue
		}
		s.trial, s.trials = s.trials[0], s.trials[1:]
		s.trial.waits = false
		g.log.wake()
	}
}

// blame takes back the moves that spoilt a table before it was sent. It returns
// false if there is none.
func (g *group) blame(s *segment, moves []move, err error, dirty map[*segment]bool) bool {
	var suspects []move
	taken := map[string]*member{} // by host and base path
	places := func(mb *member, fn func(place string)) {
		for _, h := range mb.live.hosts {
			fn(h + mb.live.base)
		}
	}
	for _, mb := range s.members {
		i := slices.IndexFunc(moves, func(m move) bool { return m.member == mb && !m.revert && m.live != m.from })
		if i >= 0 {
			suspects = append(suspects, moves[i])
			continue
		}
		places(mb, func(place string) { taken[place] = mb })
	}
	if len(suspects) == 0 {
		return false
	}
	slices.SortFunc(suspects, func(a, b move) int { return compareRev(a.live, b.live) })
	before := len(suspects)
	suspects = slices.DeleteFunc(suspects, func(m move) bool {
		if _, alone := g.buildTable(s.name, []*member{m.member}); alone != nil {
			g.spoilt(m, alone, dirty)
			return true
		}
		var other *member
		places(m.member, func(place string) {
			if taken[place] != nil {
				other = taken[place]
			}
		})
		switch {
		case other == nil:
			places(m.member, func(place string) { taken[place] = m.member })
			return false
		case other.moving && other.want != other.live:
			g.setLive(m.member, m.from, dirty) // its place is about to become free
		default:
			g.spoilt(m, errors.New(m.live.base+" belongs to API "+string(other.id)), dirty)
		}
		return true
	})
	if len(suspects) == before { // nobody in particular
		for _, m := range suspects {
			g.spoilt(m, err, dirty)
		}
	}
	return true
}

// spoilt takes one move back for good.
func (g *group) spoilt(m move, err error, dirty map[*segment]bool) {
	failed := m.live
	g.setLive(m.member, m.from, dirty)
	m.want = m.from
	g.drop(m.member, failed)
	g.quarantine(m.member, scopes, scopeName(g.Name, failed.segment), "", err.Error())
}

// segmentOf returns the segment of a scope's resource name.
func (g *group) segmentOf(scope string) string { return strings.TrimPrefix(scope, g.Name+"/") }

// apiOf returns the API of a cluster's name, be/<api>/<hash>.
func apiOf(cluster string) keymanager.APIID {
	rest, ok := strings.CutPrefix(cluster, envoy.ClusterAPIPrefix)
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return keymanager.APIID(id)
}
