package xds

import (
	"fmt"
	"testing"
	"time"
)

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

// What was refused with others is sent again, some of it with a newer content.
// Until all of it has arrived the Envoy has not answered for it.
func TestRefusalIsNotAnAnswerForTheRest(t *testing.T) {
	l := testLog(t)
	p := newPeer(l)
	p.whole = true
	p.connect(1)
	p.settle()
	l.update([]change{put(clusters, "a", "!"), put(clusters, "b", "x"), put(clusters, "c", "x")})
	for p.receive() {
	}
	whole := l.seq
	l.update([]change{put(clusters, "a", "y"), put(clusters, "c", "y")})
	for p.receive() || len(p.answers) > 0 {
		if len(p.answers) > 0 {
			p.answer(0)
		}
		if low := l.acknowledged(clusters); low >= whole && p.has[clusters]["b"] == "" {
			t.Errorf("%d acknowledged of %d, and b has not arrived", low, whole)
		}
	}
	if len(p.has[clusters]) != 3 || l.acknowledged(clusters) != l.seq {
		t.Errorf("%d clusters, %d of %d acknowledged", len(p.has[clusters]), l.acknowledged(clusters), l.seq)
	}
	p.disconnect()
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

// A request of an Envoy that came back may still be on its way to a cluster that
// is no more.
func TestReturnHasGrace(t *testing.T) {
	l := testLog(t)
	l.grace = 50 * time.Millisecond
	l.update([]change{put(clusters, "old", "x"), put(scopes, "s", "to old")})
	p := newPeer(l)
	p.connect(1)
	p.settle()
	p.disconnect()
	l.update([]change{put(scopes, "s", "to nobody"), {kind: clusters, name: "old"}})
	p.connect(2)
	p.settle()
	if p.has[clusters]["old"] == "" {
		t.Error("the old cluster goes at once")
	}
	eventually(t, func() error {
		p.settle()
		if p.has[clusters]["old"] != "" {
			return fmt.Errorf("the old cluster stays")
		}
		return nil
	})
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
