package xds

import (
	"fmt"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"google.golang.org/protobuf/proto"

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
		ID: "x", Catalog: newCatalog(), Grace: -1, Now: func() time.Time { return w.now },
		Groups: []Group{{Name: "g", Hosts: []string{"localhost"}, Listeners: []Listener{{Address: "127.0.0.1"}}}},
	}
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.g, err = newGroup(&o.Groups[0], o, m, make(chan struct{}, 1), newCertificates(nil, o.Certificates, w.now)); err != nil {
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
var badHash = clusterName("", keymanager.HTTP1, nil, []endpoint{{env: envoy.EnvProduction, host: "127.0.0.1", port: 6666}}, "")[len("be//"):]

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
