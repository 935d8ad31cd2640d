package xds

import (
	"maps"
	"slices"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// peer is a model of one Envoy at the seam between the library and the log: it
// drives the watch as the library's delta server does, in one goroutine.
type peer struct {
	name    string
	log     *changeLog
	st      *stream
	ch      chan cache.DeltaResponse
	cancels [kinds]func()
	nonce   int
	has     [kinds]map[string]string // version by name
	answers []*discoveryv3.DeltaDiscoveryRequest
	tables  bool // asked for
	whole   bool // refuses whole responses, in every kind
	refuses func(k kind, value []byte) bool
	bytes   [kinds]map[string][]byte // content by name
	noted   map[string]string        // content of tables, also of refused responses
	quick   bool                     // takes everything without looking
	size    int                      // bytes of content
	after   func()                   // a response was taken
	nacks   int
	sent    int // resources
}

func newPeer(l *changeLog) *peer {
	p := &peer{log: l, refuses: func(_ kind, value []byte) bool { return bad(value) }, noted: map[string]string{}}
	for k := range kinds {
		p.has[k], p.bytes[k] = map[string]string{}, map[string][]byte{}
	}
	return p
}

func bad(value []byte) bool { return len(value) > 0 && value[0] == '!' }

func (p *peer) connect(id int64) {
	p.st = &stream{id: id, log: p.log, node: p.name}
	p.log.open(p.st)
	p.ch = make(chan cache.DeltaResponse, 3)
	p.answers, p.tables = nil, true // not before the listeners
	p.subscribe(clusters)
	p.subscribe(listeners)
	p.tables = false
	p.subscribeTables()
}

func (p *peer) subscribe(k kind) {
	p.request(k, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: k.url(), InitialResourceVersions: maps.Clone(p.has[k])})
}

// subscribeTables: Envoy asks for tables as soon as it has a listener.
func (p *peer) subscribeTables() {
	if !p.tables && len(p.has[listeners]) > 0 {
		p.tables = true
		p.subscribe(scopes)
	}
}

// request does what the library does for a request of the stream.
func (p *peer) request(k kind, r *discoveryv3.DeltaDiscoveryRequest) {
	for p.receive() { // processAll
	}
	if p.cancels[k] != nil {
		p.cancels[k]()
	}
	p.cancels[k] = p.log.watch(p.st, k, r, p.ch)
}

// receive takes one response from the channel and prepares its answer.
func (p *peer) receive() bool {
	select {
	case r := <-p.ch:
		m, err := r.GetDeltaDiscoveryResponse()
		if err != nil {
			panic(err)
		}
		p.nonce++
		k, _ := kindOf(m.GetTypeUrl())
		p.log.sending(p.st, k, strconv.Itoa(p.nonce), 0)
		p.answers = append(p.answers, p.take(k, m))
		p.subscribeTables()
		return true
	default:
		return false
	}
}

func (p *peer) take(k kind, m *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	p.sent += len(m.GetResources()) + len(m.GetRemovedResources())
	out := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: k.url(), ResponseNonce: strconv.Itoa(p.nonce)}
	if p.quick {
		for _, r := range m.GetResources() {
			p.size += len(r.GetResource().GetValue())
			p.has[k][r.GetName()] = r.GetVersion()
		}
		return out
	}
	refuses := func(r *discoveryv3.Resource) bool { return p.refuses(k, r.GetResource().GetValue()) }
	if slices.ContainsFunc(m.GetResources(), refuses) {
		out.ErrorDetail = &rpcstatus.Status{Message: "no"}
		p.nacks++
	}
	if p.whole && out.ErrorDetail != nil {
		return out
	}
	for _, name := range m.GetRemovedResources() {
		delete(p.has[k], name)
		delete(p.bytes[k], name)
		if k == scopes {
			delete(p.noted, name)
		}
	}
	var use []*discoveryv3.Resource
	for _, r := range m.GetResources() {
		if refuses(r) {
			if k == scopes { // all or nothing, and yet noted: see feed.tainted
				use = nil
				break
			}
			continue
		}
		if k == scopes {
			value := string(r.GetResource().GetValue())
			if p.noted[r.GetName()] == value {
				continue
			}
			p.noted[r.GetName()] = value
		}
		use = append(use, r)
	}
	for _, r := range use {
		p.has[k][r.GetName()], p.bytes[k][r.GetName()] = r.GetVersion(), r.GetResource().GetValue()
	}
	if p.after != nil {
		p.after()
	}
	return out
}

// answer sends the i-th answer that is due; those of one kind stay in order.
func (p *peer) answer(i int) {
	a := p.answers[i]
	for j := range i {
		if p.answers[j].GetTypeUrl() == a.GetTypeUrl() {
			i, a = j, p.answers[j]
			break
		}
	}
	p.answers = append(p.answers[:i:i], p.answers[i+1:]...)
	k, _ := kindOf(a.GetTypeUrl())
	p.request(k, a)
}

func (p *peer) settle() {
	for p.receive() || len(p.answers) > 0 {
		if len(p.answers) > 0 {
			p.answer(0)
		}
	}
}

func (p *peer) disconnect() {
	for k := range kinds {
		if p.cancels[k] != nil {
			p.cancels[k]()
			p.cancels[k] = nil
		}
	}
	close(p.ch) // a send from here on is a panic
	p.log.close(p.st)
	p.st = nil
}

func testLog(t interface{ Fatal(...any) }) *changeLog {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := newChangeLog("g", time.Now, m, time.Hour)
	l.update([]change{put(listeners, "base", "x")})
	return l
}

func put(k kind, name, value string) change {
	return change{kind: k, name: name, value: []byte(value), version: hash64([]byte(value))}
}
