package xds

import (
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// move is one member going from what it was to what it is to be, or back.
type move struct {
	*member
	from   *plan
	revert bool
}

// advance puts the members into the tables whose clusters are warm, and returns
// how long the next one may have to wait.
func (g *group) advance(dirty map[*segment]bool, moves []move) time.Duration {
	now := g.opts.Now()
	warm := g.log.acknowledged(clusters)
	var wait time.Duration
	for mb := range g.moving {
		if mb.want == mb.live {
			g.settle(mb)
			continue
		}
		if mb.waits && mb.want != nil {
			continue
		}
		if left := mb.deadline.Sub(now); mb.want != nil && !mb.want.resolved && warm < mb.barrier && left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		moves = append(moves, move{member: mb, from: mb.live})
	}
	// The order in which they were published decides between two APIs that want
	// the same place.
	slices.SortFunc(moves, func(a, b move) int {
		if c := compareRev(a.want, b.want); c != 0 {
			return c
		}
		return strings.Compare(string(a.id), string(b.id))
	})
	for _, m := range moves {
		if !m.revert {
			g.setLive(m.member, m.want, dirty)
		}
	}
	g.rebuild(dirty, moves)
	g.moving = small(g.moving)
	return wait
}

// small returns an empty map anew: to walk through one that has once been large
// takes as long as it did then.
func small[M ~map[K]V, K comparable, V any](m M) M {
	if len(m) == 0 {
		return M{}
	}
	return m
}

func compareRev(a, b *plan) int {
	var x, y uint64
	if a != nil {
		x = a.rev
	}
	if b != nil {
		y = b.rev
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	default:
		return 0
	}
}

// setLive moves a member between tables.
func (g *group) setLive(mb *member, p *plan, dirty map[*segment]bool) {
	if mb.live != nil && (p == nil || p.segment != mb.live.segment) {
		s := g.segment(mb.live.segment)
		s.members = slices.DeleteFunc(s.members, func(o *member) bool { return o == mb })
		dirty[s] = true
	}
	if p != nil {
		s := g.segment(p.segment)
		if mb.live == nil || mb.live.segment != p.segment {
			s.members = append(s.members, mb)
		}
		dirty[s] = true
	}
	mb.live = p
}

func (g *group) segment(name string) *segment {
	s := g.segments[name]
	if s == nil {
		s = &segment{name: name}
		g.segments[name] = s
	}
	return s
}

// rebuild makes the tables of dirty segments and puts them into the log. A move
// that spoils its table is taken back and its API quarantined; the others of
// the table go on.
func (g *group) rebuild(dirty map[*segment]bool, moves []move) {
	built := map[*segment]change{}
	for len(dirty) > 0 {
		for s := range dirty {
			delete(dirty, s)
			c, err := g.table(s)
			if err == nil {
				built[s] = c
				continue
			}
			delete(built, s)
			if !g.blame(s, moves, err, dirty) {
				g.opts.Logger.Error("a table cannot be built; the old one stays", "group", g.Name, "scope", s.name, "error", err)
			}
		}
	}
	changes := make([]change, 0, len(built))
	order := make([]*segment, 0, len(built))
	for s, c := range built {
		changes, order = append(changes, c), append(order, s)
	}
	g.log.update(changes)
	touched := map[string]uint64{}
	for i, s := range order {
		s.seq, s.inUse = changes[i].seq, false
		if changes[i].accepted {
			g.tableInUse(s)
		}
		touched[s.name] = s.seq
		g.seq = max(g.seq, s.seq)
		g.forgetSegment(s)
	}
	for _, m := range moves {
		g.settle(m.member)
		if m.from != nil && (m.live == nil || m.live.cluster != m.from.cluster) {
			g.leave(m.member, m.from, touched)
		}
	}
}

func (g *group) forgetSegment(s *segment) {
	if len(s.members) == 0 && !g.trying[s] {
		delete(g.segments, s.name)
	}
}

// table builds and proves a segment's table; without members it is removed.
func (g *group) table(s *segment) (change, error) {
	c := change{kind: scopes, name: scopeName(g.Name, s.name)}
	if len(s.members) == 0 {
		return c, nil
	}
	sc, err := g.buildTable(s.name, s.members)
	if err != nil {
		return c, err
	}
	c.value, c.version, err = encode(sc)
	return c, err
}

func (g *group) buildTable(name string, members []*member) (*routev3.ScopedRouteConfiguration, error) {
	plans := make([]*plan, len(members))
	for i, m := range members {
		plans[i] = m.live
	}
	sc, err := buildScope(g.Group, name, plans)
	if err != nil {
		return nil, err
	}
	return sc, proveScope(g.Group, sc, func(cluster string) bool { return g.log.has(clusters, cluster) })
}

// settle ends a change: it is in the tables, or it has failed.
func (g *group) settle(mb *member) {
	if mb.want != mb.live {
		return
	}
	mb.moving = false
	delete(g.moving, mb)
	for _, m := range mb.marks {
		m.open--
		m.seq = max(m.seq, g.seq, mb.barrier)
	}
	mb.marks = nil
	if mb.live == nil && mb.bad == nil {
		mb.good = nil
		delete(g.members, mb.id)
	}
}

// retirement is what has to happen before a cluster is removed: no Envoy routes
// to it any more, since the tables that took its routes away are in use
// everywhere, and the requests that were routed before have had their grace.
type retirement struct {
	tables []string
	seq    uint64
	left   time.Time // when the tables were in use everywhere; zero = not yet
}

// leave removes the cluster that a member's routes have left, when they have
// left it everywhere.
func (g *group) leave(mb *member, from *plan, touched map[string]uint64) {
	if touched[from.segment] == 0 {
		return // its table could not be built: it still routes there
	}
	r := g.retired[from.cluster]
	segments := []string{from.segment}
	if mb.live != nil {
		segments = append(segments, mb.live.segment)
	}
	for _, s := range segments {
		if name := scopeName(g.Name, s); !slices.Contains(r.tables, name) {
			r.tables = append(r.tables, name)
		}
		r.seq = max(r.seq, touched[s])
	}
	r.left = time.Time{}
	g.retired[from.cluster] = r
}

// drop removes the cluster of a plan that is not to become live.
func (g *group) drop(mb *member, p *plan) {
	if p == nil || p == mb.live {
		return
	}
	if _, known := g.retired[p.cluster]; !known {
		g.retired[p.cluster] = retirement{}
	}
}

// retire removes the clusters that nothing routes to any more, and returns how
// long until the next has had its grace.
func (g *group) retire() (wait time.Duration) {
	var out []change
	now := g.opts.Now()
	for cluster, r := range g.retired {
		if !g.log.inUse(r.tables, r.seq) {
			continue
		}
		if mb := g.members[apiOf(cluster)]; mb != nil {
			if mb.good.uses(cluster) && !mb.live.uses(cluster) {
				continue // the routes may yet fall back to it
			}
			if mb.want.uses(cluster) || mb.live.uses(cluster) {
				delete(g.retired, cluster) // in use again
				continue
			}
		}
		if r.left.IsZero() {
			r.left = now
			g.retired[cluster] = r
		}
		if grace := r.left.Add(g.opts.Grace).Sub(now); grace > 0 {
			wait = sooner(wait, grace)
			continue
		}
		delete(g.retired, cluster)
		out = append(out, change{kind: clusters, name: cluster})
	}
	g.retired = small(g.retired)
	g.log.update(out)
	return wait
}

// sooner returns the shorter of two waits; 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func (p *plan) uses(cluster string) bool { return p != nil && p.cluster == cluster }
