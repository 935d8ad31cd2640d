package xds

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// member is one API in a gateway group. A change takes it from live to want:
// its cluster first, then (when Envoy has resolved it) its routes, then the old
// cluster goes.
type member struct {
	id   keymanager.APIID
	want *plan // what the catalog says, or what is left after a refusal; nil = no routes
	live *plan // what the tables say
	good *plan // what an Envoy has accepted: where a refused change falls back to

	moving   bool // want is not live yet
	barrier  uint64
	deadline time.Time // of the barrier
	waits    bool      // one of several that may have spoilt a table: goes in alone
	bad      *keymanager.RejectedResource
	marks    []*mark
}

// segment is one table: the members whose live routes begin with its name.
type segment struct {
	name    string
	members []*member
	seq     uint64 // of its content in the log
	inUse   bool   // an Envoy has accepted the content
	// Of several that may have spoilt the table, one is let in after the other.
	trial  *member
	trials []*member // wait for their turn
}

// mark is a position of the catalog and what has to happen for it to be in
// effect: open members have to settle, and Envoys to acknowledge seq.
type mark struct {
	at   keymanager.Position
	open int
	seq  uint64
}

// retirement is what has to happen before a cluster is removed: no Envoy routes
// to it any more, since the tables that took its routes away are in use
// everywhere.
type retirement struct {
	tables []string
	seq    uint64
}

// group turns deliveries of the catalog into changes of its log, in the order
// that never routes to a cluster that is not there.
type group struct {
	*Group
	opts *Options
	log  *changeLog
	// loaded is closed when the first snapshot is in the log.
	loaded chan struct{}

	mu     sync.Mutex // guards inbox and state
	inbox  []delivery
	state  groupState
	stated chan<- struct{} // wakes the reporter

	// The rest belongs to the goroutine of run.
	members  map[keymanager.APIID]*member
	segments map[string]*segment
	moving   map[*member]bool
	trying   map[*segment]bool     // have trials
	retired  map[string]retirement // by cluster
	marks    []*mark
	base     mark // the last one that every Envoy has acknowledged
	seq      uint64
	rejected map[keymanager.APIID]*member
	nodes    map[string]*nodeRecord
	isLoaded bool
}

func newGroup(spec *Group, opts *Options, m *metrics, stated chan<- struct{}) (*group, error) {
	g := &group{
		Group: spec, opts: opts,
		log:    newChangeLog(spec.Name, opts.Now, m, opts.WarmTimeout),
		loaded: make(chan struct{}), stated: stated,
		members: map[keymanager.APIID]*member{}, segments: map[string]*segment{},
		moving: map[*member]bool{}, trying: map[*segment]bool{}, retired: map[string]retirement{}, rejected: map[keymanager.APIID]*member{}, nodes: map[string]*nodeRecord{},
	}
	return g, g.publishOwn()
}

// publishOwn puts what does not come from the catalog into the log: listeners,
// and the key manager's cluster and tables. A mistake in them ends the start.
func (g *group) publishOwn() error {
	var out []change
	if g.KeyManager != "" {
		c, err := buildKeyManagerCluster(g.Group)
		if err == nil {
			err = proveCluster(c)
		}
		if err != nil {
			return err
		}
		value, version, err := encode(c)
		if err != nil {
			return err
		}
		out = append(out, change{kind: clusters, name: c.GetName(), version: version, value: value})
		tables, err := buildKeyManagerScopes(g.Group)
		if err != nil {
			return err
		}
		for _, t := range tables {
			if err := proveScope(g.Group, t, func(c string) bool { return c == envoy.ClusterKeyManager }); err != nil {
				return err
			}
			value, version, err := encode(t)
			if err != nil {
				return err
			}
			out = append(out, change{kind: scopes, name: t.GetName(), version: version, value: value})
		}
	}
	for _, spec := range g.Listeners {
		l, err := buildListener(g.Group, spec)
		if err == nil {
			err = proveListener(l)
		}
		if err != nil {
			return err
		}
		value, version, err := encode(l)
		if err != nil {
			return err
		}
		out = append(out, change{kind: listeners, name: l.GetName(), version: version, value: value})
	}
	g.log.update(out)
	return nil
}

func (g *group) submit(d delivery) {
	g.mu.Lock()
	g.inbox = append(g.inbox, d)
	g.mu.Unlock()
	g.log.wake()
}

// run works off what the catalog and the Envoys say until ctx ends.
func (g *group) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if wait := g.step(); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.log.notify:
		case <-timer.C:
		}
	}
}

// step does what can be done now, and returns how long until a deadline.
func (g *group) step() time.Duration {
	g.mu.Lock()
	inbox := g.inbox
	g.inbox = nil
	g.mu.Unlock()

	refusals, accepted := g.log.events()
	g.accept(accepted)
	dirty := map[*segment]bool{}
	reverts := g.refuse(refusals, dirty)
	g.take(inbox)
	wait := g.advance(dirty, reverts)
	g.tryNext()
	g.retire()
	g.settleMarks()
	for _, d := range inbox {
		if d.whole && !g.isLoaded {
			g.isLoaded = true
			close(g.loaded)
		}
	}
	g.publishState()
	return wait
}

// take reads deliveries: what each API is to become, and its cluster, which may
// go out at once.
func (g *group) take(inbox []delivery) {
	var puts []change
	var changed []*member
	for _, d := range inbox {
		m := g.mark(d.at)
		want := func(mb *member, p *plan) {
			g.drop(mb, mb.want) // if it never became live
			mb.want, mb.bad = p, nil
			delete(g.rejected, mb.id)
			changed = append(changed, mb)
			mb.marks = append(mb.marks, m)
			m.open++
		}
		seen := map[keymanager.APIID]bool{}
		for _, api := range d.apis {
			seen[api.ID] = true
			mb := g.members[api.ID]
			if !api.Routed() || !g.serves(api) {
				if mb != nil {
					want(mb, nil)
				}
				continue
			}
			if mb == nil {
				mb = &member{id: api.ID}
				g.members[api.ID] = mb
			}
			p, put, err := g.plan(api)
			if err != nil {
				want(mb, mb.live)
				g.quarantine(mb, clusters, envoy.ClusterAPIPrefix+string(api.ID), "", err.Error())
				continue
			}
			if p.same(mb.live) {
				p = mb.live // only what differs can spoil a table
			}
			want(mb, p)
			puts = append(puts, put)
		}
		if mb := g.members[d.removed]; mb != nil {
			want(mb, nil)
		}
		if d.whole {
			for id, mb := range g.members {
				if !seen[id] {
					want(mb, nil)
				}
			}
		}
	}
	g.log.update(puts)
	for i := range puts {
		mb := g.members[apiOf(puts[i].name)]
		mb.barrier = puts[i].seq
		if r := puts[i].refusal; r != nil { // known to be bad: Envoy will not be asked again
			g.refuseCluster(*r, nil)
		}
	}
	for _, mb := range changed {
		mb.deadline = g.opts.Now().Add(g.opts.WarmTimeout)
		mb.moving = true
		g.moving[mb] = true
	}
}

// plan builds and proves the cluster of an API.
func (g *group) plan(api *keymanager.API) (*plan, change, error) {
	p, ends, err := newPlan(g.Group, api)
	if err != nil {
		return nil, change{}, err
	}
	c, err := buildAPICluster(g.Group, p, api.Protocol, ends)
	if err != nil {
		return nil, change{}, err
	}
	if err := proveCluster(c); err != nil {
		return nil, change{}, err
	}
	value, version, err := encode(c)
	if err != nil {
		return nil, change{}, err
	}
	return p, change{kind: clusters, name: p.cluster, version: version, value: value}, nil
}

// serves reports whether the API is meant for this group.
func (g *group) serves(api *keymanager.API) bool {
	return len(api.Labels) == 0 || slices.Contains(api.Labels, g.Name)
}

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
	return wait
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
	g.retired[from.cluster] = r
}

// drop removes the cluster of a plan that is not to become live.
func (g *group) drop(mb *member, p *plan) {
	if p != nil && p != mb.live {
		g.retired[p.cluster] = g.retired[p.cluster]
	}
}

// retire removes the clusters that nothing routes to any more.
func (g *group) retire() {
	var out []change
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
		delete(g.retired, cluster)
		out = append(out, change{kind: clusters, name: cluster})
	}
	g.log.update(out)
}

func (p *plan) uses(cluster string) bool { return p != nil && p.cluster == cluster }
