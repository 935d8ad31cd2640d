package xds

import (
	"context"
	"slices"
	"sync"
	"time"

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
	// doc is what the catalog says, of one that no Envoy has accepted yet or that
	// names certificates: it may have to be looked at again although it has not
	// changed.
	doc      *keymanager.API
	tries    int       // of the doc that failed
	retryAt  time.Time // when it is looked at again
	retrying bool      // want is what an Envoy refused before
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

// group turns deliveries of the catalog into changes of its log, in the order
// that never routes to a cluster that is not there.
type group struct {
	*Group
	opts *Options
	log  *changeLog
	// loaded is closed when the first snapshot is in the log.
	loaded chan struct{}

	mu     sync.Mutex // guards inbox, state and away
	inbox  []delivery
	state  groupState
	away   map[string]turnedAway // by node id
	stated chan<- struct{}       // wakes the reporter

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
	verdicts bool // rejected has changed
	listed   []keymanager.RejectedResource
	nodes    map[string]*nodeRecord
	isLoaded bool
	at       keymanager.Position // of the last delivery

	certs     *certificates
	own       []string        // certificates of the listeners and the key manager
	published map[string]bool // certificates of which the log has the secrets
}

func newGroup(spec *Group, opts *Options, m *metrics, stated chan<- struct{}, certs *certificates) (*group, error) {
	g := &group{
		Group: spec, opts: opts,
		certs: certs, published: map[string]bool{}, away: map[string]turnedAway{},
		log:    newChangeLog(spec.Name, opts.Now, m, opts.WarmTimeout),
		loaded: make(chan struct{}), stated: stated,
		members: map[keymanager.APIID]*member{}, segments: map[string]*segment{},
		moving: map[*member]bool{}, trying: map[*segment]bool{}, retired: map[string]retirement{}, rejected: map[keymanager.APIID]*member{}, nodes: map[string]*nodeRecord{},
	}
	g.log.grace = opts.Grace
	return g, g.publishOwn()
}

// publishOwn puts what does not come from the catalog into the log: listeners,
// and the key manager's cluster and tables. A mistake in them ends the start.
func (g *group) publishOwn() error {
	var out []change
	g.own = g.certificates()
	g.publishSecrets(g.own...)
	if len(g.KeyManager.Addresses) > 0 {
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
	inbox, retry, certified := g.lookAgain(inbox)
	g.take(inbox)
	if certified {
		reverts = append(reverts, g.evict(dirty)...)
	}
	wait := g.advance(dirty, reverts)
	g.tryNext()
	wait = sooner(sooner(wait, retry), g.retire())
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
		g.at = d.at
		want := func(mb *member, p *plan) {
			g.drop(mb, mb.want) // if it never became live
			mb.want = p
			if !d.again {
				mb.tries = 0
			}
			// What an Envoy has refused stays so until one accepts it.
			if mb.retrying = d.again && mb.bad != nil && mb.bad.Node != ""; !mb.retrying {
				g.clear(mb)
			}
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
			mb.doc = api
			if err != nil {
				want(mb, g.entitled(mb.live))
				g.quarantine(mb, clusters, envoy.ClusterAPIPrefix+string(api.ID), "", err.Error())
				continue
			}
			if p.same(mb.live) {
				p = mb.live // only what differs can spoil a table
			}
			want(mb, p)
			mb.forget()
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
	if names := p.trust.certificates(); len(names) > 0 {
		if err := g.certs.backend(p.trust); err != nil {
			return nil, change{}, err
		}
		g.publishSecrets(names...) // before the cluster, which would wait for them
	}
	c, err := buildAPICluster(p, api.Protocol, ends)
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
