package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// What the model of Envoy refuses, and what xds refuses itself.
const (
	badTimeout = 13 * time.Second        // in a route
	badPort    = "http://127.0.0.1:6666" // in a cluster
	badVersion = "1;0"                   // never built
)

// world is a group with its clock and some model Envoys, driven by hand.
type world struct {
	t interface {
		Fatal(...any)
		Errorf(string, ...any)
	}
	g     *group
	now   time.Time
	at    keymanager.Position
	peers []*peer
	ids   int64
}

func newWorld(t interface {
	Fatal(...any)
	Errorf(string, ...any)
}, peers int) *world {
	w := &world{t: t, now: time.Unix(1e9, 0), at: keymanager.Position{Epoch: keymanager.Epoch{1}}}
	o := &Options{
		ID: "x", Catalog: newCatalog(), Now: func() time.Time { return w.now },
		Groups: []Group{{Name: "g", Hosts: []string{"localhost"}, Listeners: []Listener{{Address: "127.0.0.1"}}}},
	}
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.g, err = newGroup(&o.Groups[0], o, m, make(chan struct{}, 1)); err != nil {
		t.Fatal(err)
	}
	for i := range peers {
		p := newPeer(w.g.log)
		p.name = fmt.Sprint("n", i)
		p.refuses = refusesBad
		p.after = func() { // no route to a cluster that is not there, at any time
			if p.st != nil && len(p.st.feeds[scopes].refused) > 0 {
				return // it may be left with the routes of long ago
			}
			for id, r := range p.routed() {
				if p.has[clusters][r[1]] == "" && !strings.HasSuffix(r[1], badHash) {
					t.Errorf("%s is routed to %s, which is not there", id, r[1])
				}
			}
		}
		w.peers = append(w.peers, p)
	}
	w.submit(delivery{whole: true})
	w.g.step()
	w.connectAll()
	w.settle()
	return w
}

// badHash ends the names of clusters that the model refuses: their tables may
// come before the refusal is known.
var badHash = clusterName("", keymanager.HTTP1, "", []endpoint{{env: envoy.EnvProduction, host: "127.0.0.1", port: 6666}})[len("be//"):]

func refusesBad(k kind, value []byte) bool {
	switch k {
	case scopes:
		for _, r := range routesOfTable(value) {
			if r.GetRoute().GetTimeout().AsDuration() == badTimeout {
				return true
			}
		}
	case clusters:
		return strings.Contains(fmt.Sprint(endpointsOf(value)), ":6666")
	}
	return false
}

func routesOfTable(value []byte) []*routev3.Route {
	s := new(routev3.ScopedRouteConfiguration)
	if err := proto.Unmarshal(value, s); err != nil {
		panic(err)
	}
	var out []*routev3.Route
	for _, vh := range s.GetRouteConfiguration().GetVirtualHosts() {
		routes, err := routesOf(vh)
		if err != nil {
			panic(err)
		}
		out = append(out, routes...)
	}
	return out
}

func endpointsOf(value []byte) []string {
	c := new(clusterv3.Cluster)
	if err := proto.Unmarshal(value, c); err != nil {
		panic(err)
	}
	var out []string
	for _, e := range c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints() {
		a := e.GetEndpoint().GetAddress().GetSocketAddress()
		out = append(out, fmt.Sprintf("%s:%d", a.GetAddress(), a.GetPortValue()))
	}
	return out
}

func (w *world) submit(d delivery) {
	w.at.Seq++
	d.at = w.at
	for _, a := range d.apis {
		a.Position = w.at.Seq
	}
	w.g.submit(d)
}

// put publishes copies, since deliveries are not to be changed.
func (w *world) put(apis ...*keymanager.API) {
	d := delivery{}
	for _, a := range apis {
		c := *a
		d.apis = append(d.apis, &c)
	}
	w.submit(d)
}

func (w *world) connectAll() {
	for _, p := range w.peers {
		if p.st == nil {
			w.ids++
			p.connect(w.ids)
		}
	}
}

// settle lets everybody speak until nothing moves.
func (w *world) settle() {
	for range 60 {
		before := w.g.log.seq
		w.g.step()
		answers := 0
		for _, p := range w.peers {
			if p.st == nil {
				continue
			}
			for p.receive() || len(p.answers) > 0 {
				if len(p.answers) > 0 {
					answers++
					p.answer(0)
				}
			}
		}
		if answers == 0 && before == w.g.log.seq && len(w.g.log.notify) == 0 {
			return
		}
		select {
		case <-w.g.log.notify:
		default:
		}
	}
	w.t.Errorf("it never comes to rest")
}

// routed returns rev and cluster by API as the peer has them.
func (p *peer) routed() map[keymanager.APIID][2]string {
	out := map[keymanager.APIID][2]string{}
	for _, value := range p.bytes[scopes] {
		for _, r := range routesOfTable(value) {
			s := new(extauthzv3.ExtAuthzPerRoute)
			if err := r.GetTypedPerFilterConfig()[envoy.FilterAuthz].UnmarshalTo(s); err != nil {
				panic(err)
			}
			ext := s.GetCheckSettings().GetContextExtensions()
			out[keymanager.APIID(ext[envoy.ContextAPI])] = [2]string{ext[envoy.ContextRev], r.GetRoute().GetCluster()}
		}
	}
	return out
}

func (w *world) rejected() map[keymanager.APIID]keymanager.RejectedResource {
	out := map[keymanager.APIID]keymanager.RejectedResource{}
	for _, r := range w.g.state.rejected {
		out[r.API] = r
	}
	return out
}

// noLeaks: the peer has the clusters that it routes to, and no other.
func (w *world) noLeaks(p *peer) {
	want := map[string]bool{}
	for _, r := range p.routed() {
		want[r[1]] = true
	}
	for name := range p.has[clusters] {
		if !want[name] {
			w.t.Errorf("cluster %s is left over", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		w.t.Errorf("no clusters %v", want)
	}
}

func (w *world) rev(p *peer, id keymanager.APIID) string { return p.routed()[id][0] }

// TestGroupModel: random changes of APIs in few segments, some of them bad, and
// Envoys that come and go. In the end what is good is in use, what is bad is
// reported and in use nowhere (its last accepted routes may be), and no cluster
// is left over.
func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 2).Draw(t, "peers"))
		want := map[keymanager.APIID]*keymanager.API{}
		good := map[keymanager.APIID]map[string]bool{} // revs that Envoy takes
		ids := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		one := func(t *rapid.T) *keymanager.API {
			a := api(ids.Draw(t, "api"), fmt.Sprintf("http://127.0.0.1:%d", rapid.IntRange(1, 3).Draw(t, "port")))
			a.Context = fmt.Sprintf("/s%d/%s", rapid.IntRange(1, 3).Draw(t, "segment"), a.Name)
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				a.Timeout = badTimeout
			case 1:
				a.Production = []string{badPort}
			case 2:
				a.Version = badVersion
			case 3, 4:
				a.State = keymanager.StateRetired
			case 5:
				a.Production = []string{"http://name.internal"}
			case 6:
				a.Labels = []string{"elsewhere"}
			}
			return a
		}
		note := func(list ...*keymanager.API) {
			for _, a := range list {
				want[a.ID] = a
				if good[a.ID] == nil {
					good[a.ID] = map[string]bool{}
				}
				if isGood(a) {
					good[a.ID][fmt.Sprint(w.at.Seq)] = true
				}
			}
		}
		somePeer := rapid.IntRange(0, len(w.peers)-1)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				a := one(t)
				w.put(a)
				note(a)
			},
			"changes at once": func(t *rapid.T) {
				for range rapid.IntRange(2, 5).Draw(t, "n") {
					a := one(t)
					w.put(a)
					note(a)
				}
			},
			"remove": func(t *rapid.T) {
				id := keymanager.APIID(ids.Draw(t, "api") + "-1")
				w.submit(delivery{removed: id})
				delete(want, id)
			},
			"snapshot": func(t *rapid.T) {
				var list []*keymanager.API
				for _, id := range slices.Sorted(maps.Keys(want)) {
					c := *want[id]
					list = append(list, &c)
				}
				w.submit(delivery{whole: true, apis: list})
				note(list...)
			},
			"step":   func(*rapid.T) { w.g.step() },
			"settle": func(*rapid.T) { w.settle() },
			"time":   func(*rapid.T) { w.now = w.now.Add(10 * time.Second) },
			"answer": func(t *rapid.T) {
				if p := w.peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.receive()
					if len(p.answers) > 0 {
						p.answer(0)
					}
				}
			},
			"come or go": func(t *rapid.T) {
				p := w.peers[somePeer.Draw(t, "peer")]
				if p.st != nil {
					p.disconnect()
					return
				}
				w.ids++
				p.connect(w.ids)
			},
		})
		w.settle()
		w.now = w.now.Add(time.Minute)
		w.connectAll()
		w.settle()
		rejected := w.rejected()
		for i, p := range w.peers {
			routed := p.routed()
			for id, a := range want {
				rev := routed[id][0]
				switch {
				case !a.Routed() || len(a.Labels) > 0:
					if rev != "" || rejected[id].API != "" {
						t.Errorf("peer %d: %s is unpublished, and routed at rev %q; rejected: %v", i, id, rev, rejected[id])
					}
				case isGood(a):
					if rev != fmt.Sprint(a.Position) && rev != fmt.Sprint(lastRev(good[id])) {
						t.Errorf("peer %d: %s is routed at rev %q, want %v", i, id, rev, lastRev(good[id]))
					}
					if rejected[id].API != "" {
						t.Errorf("%s is rejected: %v", id, rejected[id])
					}
				default:
					if rev != "" && !good[id][rev] {
						t.Errorf("peer %d: %s is routed at the bad rev %q", i, id, rev)
					}
					if rejected[id].API == "" {
						t.Errorf("%s is bad, and not reported", id)
					}
				}
			}
			for id := range routed {
				if want[id] == nil {
					t.Errorf("peer %d: %s was removed, and is routed", i, id)
				}
			}
			w.noLeaks(p)
			p.disconnect()
		}
		if len(w.g.moving) > 0 || len(w.g.retired) > 0 || len(w.g.members) > len(want) {
			t.Errorf("left over: %d moving, %d retired, %d members for %d APIs", len(w.g.moving), len(w.g.retired), len(w.g.members), len(want))
		}
		if w.g.state.confirmed != w.at {
			t.Errorf("confirmed %v, want %v", w.g.state.confirmed, w.at)
		}
	})
}

func isGood(a *keymanager.API) bool {
	return a.Timeout != badTimeout && a.Production[0] != badPort && a.Version != badVersion
}

func lastRev(revs map[string]bool) int {
	last := 0
	for r := range revs {
		var n int
		if _, err := fmt.Sscan(r, &n); err == nil {
			last = max(last, n)
		}
	}
	return last
}

// One bad API among several that came into a table at once.
func TestOneOfSeveralSpoilsTheTable(t *testing.T) {
	w := newWorld(t, 2)
	e, a := api("e"), api("a")
	e.Context, a.Context = "/s/e", "/s/a"
	e.Timeout = badTimeout
	w.put(e, a)
	w.settle()
	for i, p := range w.peers {
		if w.rev(p, "a-1") == "" || w.rev(p, "e-1") != "" {
			t.Errorf("peer %d has %v", i, p.routed())
		}
		w.noLeaks(p)
	}
	if r := w.rejected(); len(r) != 1 || r["e-1"].API != "e-1" {
		t.Errorf("rejected: %v", r)
	}
}

// hear lets a peer take what there is, without answering.
func (p *peer) hear() {
	for p.receive() {
	}
}

// answerAll answers what is due of some kinds.
func (p *peer) answerAll(list ...kind) {
	for i := 0; i < len(p.answers); {
		if k, _ := kindOf(p.answers[i].GetTypeUrl()); slices.Contains(list, k) {
			p.answer(i)
			i = 0
			continue
		}
		i++
	}
}

// The routes of an API wait until its names are resolved, which Envoy shows by
// its answer about clusters; those of an API with addresses do not.
func TestRoutesWaitForNames(t *testing.T) {
	w := newWorld(t, 1)
	p := w.peers[0]
	w.put(api("slow", "http://name.internal"))
	w.g.step()
	w.put(api("fast", "http://127.0.0.1:1"))
	wait := w.g.step()
	p.hear()
	p.answerAll(scopes, listeners)
	if w.rev(p, "fast-1") == "" || w.rev(p, "slow-1") != "" {
		t.Fatalf("before the answer: %v", p.routed())
	}
	if wait <= 0 || wait > w.g.opts.WarmTimeout {
		t.Errorf("it would look again after %v", wait)
	}
	p.answerAll(clusters)
	w.settle()
	if w.rev(p, "slow-1") == "" {
		t.Errorf("after the answer: %v", p.routed())
	}
	if w.g.state.confirmed != w.at {
		t.Errorf("confirmed %v, want %v", w.g.state.confirmed, w.at)
	}
	// A name that never resolves holds its API up for the deadline, not others.
	w.put(api("dead", "http://nowhere.internal"))
	w.g.step()
	p.hear()
	w.put(api("slower", "http://name2.internal"))
	w.g.step()
	w.now = w.now.Add(w.g.opts.WarmTimeout)
	w.g.step()
	p.hear()
	if w.rev(p, "dead-1") == "" || w.rev(p, "slower-1") == "" {
		t.Errorf("after the deadline: %v", p.routed())
	}
	if w.g.state.confirmed == w.at {
		t.Error("confirmed without an answer")
	}
	w.settle()
	if w.g.state.confirmed != w.at {
		t.Errorf("confirmed %v, want %v", w.g.state.confirmed, w.at)
	}
}

// A cluster goes when the tables that left it are acknowledged, not before.
func TestOldClusterGoesLast(t *testing.T) {
	w := newWorld(t, 2)
	w.put(api("pets", "http://127.0.0.1:1"))
	w.settle()
	old := w.peers[0].routed()["pets-1"][1]
	w.put(api("pets", "http://127.0.0.1:2"))
	w.g.step()
	for i, p := range w.peers {
		p.hear()
		if now := p.routed()["pets-1"][1]; now == old || p.has[clusters][now] == "" || p.has[clusters][old] == "" {
			t.Errorf("peer %d: routed to %s of %v", i, now, p.has[clusters])
		}
	}
	w.peers[0].settle()
	w.g.step()
	w.peers[0].hear()
	if w.peers[0].has[clusters][old] == "" {
		t.Error("the old cluster goes before everybody has left it")
	}
	w.settle()
	for _, p := range w.peers {
		w.noLeaks(p)
	}
	if len(w.peers[0].has[clusters]) != 1 {
		t.Errorf("clusters %v", w.peers[0].has[clusters])
	}
}

// Two APIs that want one place: the one that was there stays, the other is
// rejected alone; a place that is about to become free is waited for.
func TestOnePlaceForTwo(t *testing.T) {
	w := newWorld(t, 1)
	p := w.peers[0]
	first, second, third := api("first"), api("second"), api("third")
	for _, a := range []*keymanager.API{first, second} {
		a.Context = "/s/same"
	}
	third.Context = "/s/third"
	w.put(first)
	w.settle()
	w.put(second, third)
	w.settle()
	if r := w.rejected(); len(r) != 1 || !strings.Contains(r["second-1"].Reason, "first-1") {
		t.Errorf("rejected: %v", r)
	}
	if w.rev(p, "first-1") == "" || w.rev(p, "second-1") != "" || w.rev(p, "third-1") == "" {
		t.Errorf("routed: %v", p.routed())
	}
	first.Context, first.Production = "/s/elsewhere", []string{"http://name.internal"}
	w.put(first)
	w.g.step()
	w.put(second)
	w.g.step()
	p.hear()
	if w.rev(p, "second-1") != "" || len(w.rejected()) != 0 {
		t.Errorf("before the place is free: %v, rejected %v", p.routed(), w.rejected())
	}
	w.settle()
	if w.rev(p, "first-1") == "" || w.rev(p, "second-1") == "" || len(w.rejected()) != 0 {
		t.Errorf("in the end: %v, rejected %v", p.routed(), w.rejected())
	}
	w.noLeaks(p)
}

// A node that refuses what another one uses is left behind alone.
func TestOneNodeRefuses(t *testing.T) {
	w := newWorld(t, 2)
	picky, easy := w.peers[0], w.peers[1]
	easy.refuses = func(kind, []byte) bool { return false }
	w.put(api("pets"))
	w.settle()
	rev := w.rev(picky, "pets-1")
	a := api("pets")
	a.Timeout = badTimeout
	w.put(a)
	w.g.step()
	easy.settle()
	w.settle()
	if w.rev(picky, "pets-1") != rev || w.rev(easy, "pets-1") == rev {
		t.Errorf("routed: %v and %v", picky.routed(), easy.routed())
	}
	if len(w.rejected()) != 0 {
		t.Errorf("rejected for all: %v", w.rejected())
	}
	var n []keymanager.RejectedResource
	for _, s := range w.g.state.nodes {
		n = append(n, s.Rejected...)
	}
	if len(n) != 1 || n[0].API != "pets-1" || n[0].Node != "n0" || n[0].Name != "g/pets" || n[0].Type != scopes.url() {
		t.Errorf("reported: %v", n)
	}
	a.Timeout = time.Second
	w.put(a)
	w.settle()
	for _, s := range w.g.state.nodes {
		if len(s.Rejected) > 0 {
			t.Errorf("still reported: %v", s.Rejected)
		}
	}
}

// Nothing is confirmed for an Envoy that has gone, and its return changes
// nothing for the others.
func TestConfirmedByWhoIsThere(t *testing.T) {
	w := newWorld(t, 2)
	w.put(api("pets"))
	w.g.step()
	w.peers[0].settle()
	w.g.step()
	if w.g.state.confirmed == w.at {
		t.Error("confirmed by one of two")
	}
	w.peers[1].disconnect()
	w.g.step()
	if w.g.state.confirmed != w.at {
		t.Error("not confirmed by all that are there")
	}
	before := w.g.state.confirmed
	w.connectAll()
	w.g.step()
	if w.g.state.confirmed != before {
		t.Errorf("confirmed %v, and was %v", w.g.state.confirmed, before)
	}
	w.settle()
	if s := w.g.state.nodes; len(s) != 2 || s[1].Acknowledged != w.at || !s[1].Connected {
		t.Errorf("nodes: %+v", s)
	}
	for _, p := range w.peers {
		p.disconnect()
	}
	w.g.step()
	if s := w.g.state.nodes; len(s) != 2 || s[0].Connected || s[1].Connected {
		t.Errorf("nodes: %+v", s)
	}
	w.now = w.now.Add(2 * forgetNode)
	w.g.step()
	if s := w.g.state.nodes; len(s) != 0 {
		t.Errorf("nodes: %+v", s)
	}
}
