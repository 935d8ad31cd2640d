package xds

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"pgregory.net/rapid"
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

// TestChangeLogModel: whatever the order of changes, answers, refusals and
// reconnections, each Envoy ends with exactly the good content: what is good as
// it is now, what is bad not at all or as it last accepted it, and nothing that
// was removed.
func TestChangeLogModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := testLog(t)
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		someKind := rapid.SampledFrom([]kind{clusters, listeners, scopes})
		peers := make([]*peer, rapid.IntRange(1, 3).Draw(t, "peers"))
		for i := range peers {
			peers[i] = newPeer(l)
			peers[i].whole = rapid.Bool().Draw(t, "whole")
		}
		ids := int64(0)
		contents := 0
		somePeer := rapid.IntRange(0, len(peers)-1)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				var out []change
				for range rapid.IntRange(1, 6).Draw(t, "changes") {
					k, name := someKind.Draw(t, "kind"), names.Draw(t, "name")
					switch rapid.IntRange(0, 5).Draw(t, "what") {
					case 0:
						out = append(out, change{kind: k, name: name})
					case 1:
						contents++
						out = append(out, put(k, name, fmt.Sprintf("!%d", contents)))
					case 2: // perhaps what it was before
						out = append(out, put(k, name, rapid.SampledFrom([]string{"x", "y", "!z"}).Draw(t, "old")))
					default:
						contents++
						out = append(out, put(k, name, fmt.Sprint(contents)))
					}
				}
				l.update(out)
			},
			"connect": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; p.st == nil {
					ids++
					p.connect(ids)
				}
			},
			"disconnect": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.disconnect()
				}
			},
			"receive": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.receive()
				}
			},
			"answer": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; len(p.answers) > 0 && p.st != nil {
					p.answer(rapid.IntRange(0, len(p.answers)-1).Draw(t, "answer"))
				}
			},
			"": func(t *rapid.T) {
				for k := range kinds {
					if low := l.acknowledged(k); low > l.seq {
						t.Fatalf("%s: %d acknowledged of %d", k, low, l.seq)
					}
				}
			},
		})
		for _, p := range peers {
			if p.st == nil {
				ids++
				p.connect(ids)
			}
		}
		for range 3 { // a peer's answers may set nothing of another's free
			for _, p := range peers {
				p.settle()
			}
		}
		for i, p := range peers {
			for k := range kinds {
				for name, e := range l.tables[k].entries {
					version := versionString(e.now.version)
					switch {
					case e.now.value == nil:
						t.Errorf("peer %d: %s %s is removed everywhere, and not forgotten", i, k, name)
					case bad(e.now.value) && p.has[k][name] == version:
						t.Errorf("peer %d has the bad %s %s", i, k, name)
					case !bad(e.now.value) && p.has[k][name] != version:
						t.Errorf("peer %d has %s %s in version %q, want %q", i, k, name, p.has[k][name], version)
					}
				}
				if k == clusters && len(p.st.feeds[scopes].refused) > 0 {
					continue // it may use what was removed while it was away
				}
				for name := range p.has[k] {
					if e := l.tables[k].entries[name]; e == nil || e.now.value == nil {
						t.Errorf("peer %d still has %s %s", i, k, name)
					}
				}
				if got := l.acknowledged(k); got != l.seq {
					t.Errorf("%s: %d acknowledged of %d, and all is answered", k, got, l.seq)
				}
			}
			p.disconnect()
		}
	})
}

// A change costs what changed, whatever there is.
func TestOnlyTheChangeTravels(t *testing.T) {
	l := testLog(t)
	var all []change
	for i := range 5000 {
		all = append(all, put(scopes, fmt.Sprintf("s%d", i), "x"))
	}
	l.update(all)
	p := newPeer(l)
	p.connect(1)
	p.settle()
	if p.sent != 5001 {
		t.Fatalf("the first response has %d resources", p.sent)
	}
	p.sent = 0
	l.update([]change{put(scopes, "s77", "y"), put(scopes, "s78", "x"), {kind: scopes, name: "unknown"}})
	p.settle()
	if p.sent != 1 {
		t.Errorf("%d resources travel, want the one that changed", p.sent)
	}
	// It comes back to another replica with the same content: nothing travels.
	p.disconnect()
	p.sent = 0
	other := testLog(t)
	other.update(append(all, put(scopes, "s77", "y")))
	p.log = other
	p.connect(2)
	p.settle()
	if p.sent != 0 || p.nonce == 0 {
		t.Errorf("%d resources travel to an Envoy that has them all", p.sent)
	}
	p.disconnect()
}

// One bad resource among many costs a number of responses that grows with the
// logarithm.
func TestRefusalIsHalved(t *testing.T) {
	for _, k := range []kind{clusters, scopes} {
		l := testLog(t)
		var all []change
		for i := range 1024 {
			all = append(all, put(k, fmt.Sprintf("s%d", i), "x"))
		}
		all[700] = put(k, "bad", "!")
		l.update(all)
		p := newPeer(l)
		p.whole = true
		p.connect(1)
		p.settle()
		if len(p.has[k]) != 1023 || p.nacks != 11 {
			t.Errorf("%s: %d good resources after %d refusals, want 1023 after 11", k, len(p.has[k]), p.nacks)
		}
		refusals, _ := l.events()
		if len(refusals) != 1 || refusals[0].name != "bad" || refusals[0].only {
			t.Errorf("reported: %+v", refusals)
		}
		// It is not sent again, until it changes.
		sent := p.sent
		l.update([]change{put(k, "s1", "y")})
		p.settle()
		if p.sent != sent+1 {
			t.Errorf("%s: %d resources travel, want 1", k, p.sent-sent)
		}
		l.update([]change{put(k, "bad", "good")})
		p.settle()
		if len(p.has[k]) != 1024 {
			t.Errorf("%s: the repaired resource is not in use", k)
		}
		p.disconnect()
	}
}

// Envoy withholds its answers about clusters while one of them resolves its
// name. What comes later goes out all the same.
func TestSendsBeforeTheAnswer(t *testing.T) {
	l := testLog(t)
	p := newPeer(l)
	p.connect(1)
	p.settle()
	start := l.seq
	for i := range 10 {
		l.update([]change{put(clusters, fmt.Sprintf("c%d", i), "x")})
		for p.receive() {
		}
	}
	if len(p.has[clusters]) != 10 || len(p.answers) != 10 {
		t.Errorf("%d clusters without an answer, want 10", len(p.has[clusters]))
	}
	if low := l.acknowledged(clusters); low != start {
		t.Errorf("%d acknowledged without an answer", low)
	}
	for i := range 10 {
		p.answer(0)
		if low := l.acknowledged(clusters); low != start+uint64(i+1) {
			t.Errorf("%d acknowledged after %d answers", low, i+1)
		}
	}
	p.disconnect()
}

// An Envoy that comes back serves traffic: its tables wait for its clusters,
// and its old clusters for the tables.
func TestReturnKeepsTheOrder(t *testing.T) {
	l := testLog(t)
	l.update([]change{put(clusters, "old", "x"), put(scopes, "s", "to old")})
	p := newPeer(l)
	p.connect(1)
	p.settle()
	p.disconnect()
	l.update([]change{put(clusters, "new", "x"), put(scopes, "s", "to new"), {kind: clusters, name: "old"}})
	old := p.has[scopes]["s"]
	p.connect(2)
	for p.receive() {
	}
	if p.has[clusters]["new"] == "" || p.has[clusters]["old"] == "" || p.has[scopes]["s"] != old {
		t.Fatalf("before an answer: %v", p.has)
	}
	p.answer(0)
	for p.receive() {
	}
	if p.has[scopes]["s"] == old || p.has[clusters]["old"] == "" {
		t.Fatalf("after the clusters are acknowledged: %v", p.has)
	}
	p.settle()
	if p.has[clusters]["old"] != "" {
		t.Fatalf("in the end: %v", p.has)
	}
	p.disconnect()
}

// The tables of an Envoy that came back do not wait for ever.
func TestReturnIsBounded(t *testing.T) {
	l := testLog(t)
	l.hold = 10 * time.Millisecond
	l.update([]change{put(scopes, "s", "x")})
	p := newPeer(l)
	p.connect(1)
	p.settle()
	p.disconnect()
	l.update([]change{put(clusters, "slow", "x"), put(scopes, "s", "y")})
	old := p.has[scopes]["s"]
	p.connect(2)
	eventually(t, func() error {
		for p.receive() {
		}
		if p.has[scopes]["s"] == old {
			return fmt.Errorf("the table waits")
		}
		return nil
	})
	p.settle()
	p.disconnect()
}

// A silent Envoy costs a bounded number of responses, and gets the rest when it
// speaks.
func TestSilenceIsBounded(t *testing.T) {
	l := testLog(t)
	p := newPeer(l)
	p.connect(1)
	p.settle()
	for i := range 2 * maxInFlight {
		l.update([]change{put(clusters, fmt.Sprintf("c%d", i), "x")})
		for p.receive() {
		}
	}
	if len(p.answers) != maxInFlight {
		t.Errorf("%d responses without an answer, want %d", len(p.answers), maxInFlight)
	}
	p.settle()
	if len(p.has[clusters]) != 2*maxInFlight {
		t.Errorf("%d clusters in the end, want %d", len(p.has[clusters]), 2*maxInFlight)
	}
	p.disconnect()
}
