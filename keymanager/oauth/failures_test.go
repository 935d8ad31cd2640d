package oauth_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"tollgate/keymanager/oauth"
)

// Guessing the secret of a client from one address is stopped; the client
// itself, at another address, is heard all the time.
func TestGuessingIsStopped(t *testing.T) {
	r := newRig(t)
	right, wrong := r.client, credentials{r.client.id, "wrong"}
	ask := func(c credentials, from string) reply {
		return r.do(request{auth: []string{c.basic()}, body: ccBody, from: from})
	}
	const attacker, victim = "192.0.2.1", "192.0.2.2"
	var refused int
	for range 50 {
		got := ask(wrong, attacker)
		switch got.status {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			refused++
			if wait, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
		default:
			t.Fatalf("%d %s", got.status, got.body)
		}
		if got := ask(right, victim); got.status != http.StatusOK {
			t.Fatalf("the client itself, elsewhere: %d", got.status)
		}
	}
	if refused != 40 {
		t.Errorf("%d of 50 were not heard, want all after 10", refused)
	}
	reads := r.store.count("ClientFacts")
	if got := ask(right, attacker); got.status != http.StatusTooManyRequests {
		t.Errorf("the right secret from that address: %d", got.status)
	}
	if r.store.count("ClientFacts") != reads {
		t.Error("what is not heard still costs a look-up")
	}
	for _, from := range []string{attacker, "::ffff:" + attacker} {
		for _, path := range []string{oauth.PathRevoke, oauth.PathIntrospect} {
			got := r.do(request{path: path, auth: []string{right.basic()}, body: "token=x", from: from})
			if got.status != http.StatusTooManyRequests {
				t.Errorf("%s from %s: %d", path, from, got.status)
			}
		}
	}
	if got := ask(credentials{"another", "wrong"}, attacker); got.status != http.StatusUnauthorized {
		t.Errorf("another client at that address: %d", got.status)
	}
	r.clock.advance(time.Minute)
	if got := ask(right, attacker); got.status != http.StatusOK {
		t.Errorf("after the window: %d", got.status)
	}
}

func TestUnknownClientsAreCountedToo(t *testing.T) {
	r := newRig(t)
	for i := range 12 {
		want := http.StatusUnauthorized
		if i >= 10 {
			want = http.StatusTooManyRequests
		}
		if got := r.do(request{auth: []string{credentials{"nobody", "x"}.basic()}, body: ccBody, from: "192.0.2.1"}); got.status != want {
			t.Errorf("attempt %d: %d, want %d", i+1, got.status, want)
		}
	}
}

// A client that authenticates starts from nothing.
func TestSuccessForgives(t *testing.T) {
	r := newRig(t)
	for range 3 {
		for range 9 {
			if got := r.do(request{auth: []string{credentials{r.client.id, "x"}.basic()}, body: ccBody}); got.status != http.StatusUnauthorized {
				t.Fatalf("%d", got.status)
			}
		}
		r.issue(r.client, "")
	}
}

// An address of IPv6 counts as its network; storage trouble counts for nothing.
func TestWhatCounts(t *testing.T) {
	r := newRig(t)
	wrong := []string{credentials{r.client.id, "x"}.basic()}
	r.store.breaks("ClientFacts", errDown)
	for range 20 {
		r.checkUnavailable(r.do(request{auth: wrong, body: ccBody, from: "2001:db8::1"}))
	}
	r.store.breaks("ClientFacts", nil)
	for i := range 20 {
		r.do(request{auth: wrong, body: ccBody, from: "2001:db8::" + strconv.Itoa(i+1)})
	}
	for from, want := range map[string]int{"2001:db8::ffff:1": 429, "2001:db8:0:1::1": 200, "": 200} {
		if got := r.do(request{auth: []string{r.client.basic()}, body: ccBody, from: from}); got.status != want {
			t.Errorf("from %q: %d, want %d", from, got.status, want)
		}
	}
}

// A clock that is set back neither frees nor locks out for longer than a
// window from then on.
func TestFailuresAndTheClock(t *testing.T) {
	r := newRig(t)
	for range 10 {
		r.do(request{auth: []string{credentials{r.client.id, "x"}.basic()}, body: ccBody})
	}
	r.clock.advance(-24 * time.Hour)
	got := r.do(request{auth: []string{r.client.basic()}, body: ccBody})
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "60" {
		t.Errorf("%d, Retry-After %s", got.status, got.header.Get("Retry-After"))
	}
	r.clock.advance(time.Minute)
	if got := r.do(request{auth: []string{r.client.basic()}, body: ccBody}); got.status != http.StatusOK {
		t.Errorf("a window after the clock was set back: %d", got.status)
	}
}

// Without a function that knows better, the address is that of the TCP peer.
func TestPeerAddressCounts(t *testing.T) {
	r := newRig(t, func(o *oauth.Options) { o.ClientAddress, o.Failures = nil, 2 })
	for i, want := range []int{401, 401, 429} {
		got := r.do(request{auth: []string{credentials{r.client.id, "x"}.basic()}, body: ccBody, from: "192.0.2." + strconv.Itoa(i)})
		if got.status != want {
			t.Errorf("attempt %d: %d, want %d", i+1, got.status, want)
		}
	}
}
