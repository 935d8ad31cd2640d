package xds

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
)

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
