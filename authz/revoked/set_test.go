package revoked

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

var start = time.Unix(1_700_000_000, 0)

func at(seq uint64) keymanager.Position {
	return keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: seq}
}

// feed gives a set messages in order.
type feed struct {
	t   testing.TB
	set *Set
	pos keymanager.Position
}

func (f *feed) apply(e keymanager.Event) {
	f.t.Helper()
	if err := f.set.Apply(e); err != nil {
		f.t.Fatal(err)
	}
	f.pos = e.At
}

func (f *feed) snapshot(p keymanager.Position, dead ...keymanager.Dead) {
	f.t.Helper()
	f.apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.SnapshotBegin, At: p, After: p}})
	for _, d := range dead {
		f.apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Item, At: p, After: p}, Dead: &d})
	}
	f.apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.SnapshotEnd, At: p, After: p}})
}

func (f *feed) next() keymanager.Mark {
	p := f.pos
	p.Seq++
	return keymanager.Mark{Type: keymanager.Item, At: p, After: f.pos}
}

func (f *feed) dead(d keymanager.Dead) {
	f.t.Helper()
	f.apply(keymanager.Event{Mark: f.next(), Dead: &d})
}

func (f *feed) stale(s keymanager.Stale) {
	f.t.Helper()
	f.apply(keymanager.Event{Mark: f.next(), Stale: &s})
}

func (f *feed) heartbeat(now time.Time) {
	f.t.Helper()
	f.apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Heartbeat, At: f.pos, After: f.pos}, Now: now})
}

func loaded(t testing.TB) *feed {
	f := &feed{t: t, set: New(0)}
	f.snapshot(at(10))
	return f
}

const api = keymanager.APIID("api-1")

// verdict was read at the head seq.
func verdict(seq uint64) *keymanager.Verdict {
	return &keymanager.Verdict{
		Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, TokenID: keymanager.TokenID{1}, Family: keymanager.TokenID{2},
		IssuedAt: start, Head: at(seq),
		Grant: &keymanager.Grant{
			Application: keymanager.GrantApplication{ID: "app-1"}, ConsumerKey: "ck-1", UserID: "user-1", UserStore: "PRIMARY",
			Subscription: &keymanager.GrantSubscription{ID: "sub-1"},
		},
	}
}

func TestDead(t *testing.T) {
	later, earlier := start.Add(time.Second), start.Add(-time.Second)
	for _, tt := range []struct {
		name string
		dead keymanager.Dead
		want Answer
	}{
		{"the token", keymanager.Dead{TokenID: keymanager.TokenID{1}}, Dead},
		{"another token", keymanager.Dead{TokenID: keymanager.TokenID{3}}, Live},
		{"the family's id as a token", keymanager.Dead{TokenID: keymanager.TokenID{2}}, Live},
		{"the family", keymanager.Dead{Family: keymanager.TokenID{2}}, Dead},
		{"another family", keymanager.Dead{Family: keymanager.TokenID{1}}, Live},
		{"the client, issued before", keymanager.Dead{ConsumerKey: "ck-1", NotBefore: later}, Dead},
		{"the client, issued after", keymanager.Dead{ConsumerKey: "ck-1", NotBefore: earlier}, Live},
		{"the client, issued then", keymanager.Dead{ConsumerKey: "ck-1", NotBefore: start}, Live},
		{"the client, whenever", keymanager.Dead{ConsumerKey: "ck-1"}, Dead},
		{"another client", keymanager.Dead{ConsumerKey: "ck-2", NotBefore: later}, Live},
		{"the user, issued before", keymanager.Dead{User: "user-1", NotBefore: later}, Dead},
		{"the user, issued after", keymanager.Dead{User: "user-1", NotBefore: earlier}, Live},
		{"a user named like the client", keymanager.Dead{User: "ck-1", NotBefore: later}, Live},
		{"the user store, issued before", keymanager.Dead{UserStore: "PRIMARY", NotBefore: later}, Dead},
		{"another user store", keymanager.Dead{UserStore: "FOO", NotBefore: later}, Live},
		{"nothing", keymanager.Dead{}, Live},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := loaded(t)
			v := verdict(11) // as fresh as the event: dead all the same
			if got := f.set.Check(v, api); got != Live {
				t.Fatalf("before: %d", got)
			}
			f.dead(tt.dead)
			if got := f.set.Check(v, api); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			again := &feed{t: t, set: New(0)}
			again.snapshot(at(11), tt.dead)
			if got := again.set.Check(v, api); got != tt.want {
				t.Errorf("from a snapshot: got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestWiderMarkIsKept(t *testing.T) {
	f := loaded(t)
	f.dead(keymanager.Dead{ConsumerKey: "ck-1", NotBefore: start.Add(time.Hour)})
	f.dead(keymanager.Dead{ConsumerKey: "ck-1", NotBefore: start.Add(-time.Hour)})
	if got := f.set.Check(verdict(99), api); got != Dead {
		t.Errorf("a later, narrower entry revived a credential: %d", got)
	}
}

func TestStale(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stale keymanager.Stale
		hit   bool
	}{
		{"application", keymanager.Stale{Application: "app-1"}, true},
		{"subscription", keymanager.Stale{Subscription: "sub-1"}, true},
		{"API key", keymanager.Stale{TokenID: keymanager.TokenID{1}}, true},
		{"user", keymanager.Stale{User: "user-1"}, true},
		{"API", keymanager.Stale{API: api}, true},
		{"another application", keymanager.Stale{Application: "app-2"}, false},
		{"an application named like the user", keymanager.Stale{Application: "user-1"}, false},
		{"another API", keymanager.Stale{API: "api-2"}, false},
		{"nothing", keymanager.Stale{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := loaded(t)
			f.stale(tt.stale)
			want := Live
			if tt.hit {
				want = Stale
			}
			if got := f.set.Check(verdict(10), api); got != want {
				t.Errorf("read before: got %d, want %d", got, want)
			}
			if got := f.set.Check(verdict(11), api); got != Live {
				t.Errorf("read after: got %d, want live", got)
			}
		})
	}
}

func TestVerdictsFromBefore(t *testing.T) {
	set := New(0)
	if got := set.Check(verdict(99), api); got != Unknown {
		t.Errorf("nothing loaded: %d", got)
	}
	f := &feed{t: t, set: set}
	f.snapshot(at(10))
	other := verdict(99)
	other.Head.Epoch = keymanager.Epoch{7}
	none := &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}
	nothingStored := &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential, Head: at(10)}
	for _, tt := range []struct {
		name string
		v    *keymanager.Verdict
		want Answer
	}{
		{"before the snapshot", verdict(9), Stale},
		{"at the snapshot", verdict(10), Live},
		{"after it", verdict(11), Live},
		{"of another epoch", other, Stale},
		{"of no epoch", none, Stale},
		{"without a grant", nothingStored, Live},
	} {
		if got := set.Check(tt.v, api); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	// Another snapshot: what it does not tell, stale events, may have been.
	f.snapshot(at(20))
	if got := set.Check(verdict(19), api); got != Stale {
		t.Errorf("before the second snapshot: %d", got)
	}
	if err := set.Apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Item, At: at(30), After: at(29)}}); err == nil {
		t.Error("a gap is taken")
	}
	if set.Start() != (keymanager.Position{}) || set.Position() != at(20) {
		t.Error("after a gap no snapshot is asked for, or the place is lost")
	}
}

func TestForget(t *testing.T) {
	f := loaded(t)
	for i := range 100 {
		f.dead(keymanager.Dead{TokenID: keymanager.TokenID{byte(i), 1}, ExpiresAt: start.Add(time.Duration(i) * time.Minute)})
	}
	f.dead(keymanager.Dead{TokenID: keymanager.TokenID{200}})
	f.dead(keymanager.Dead{ConsumerKey: "ck", ExpiresAt: start})
	f.dead(keymanager.Dead{TokenID: keymanager.TokenID{50, 1}, ExpiresAt: start.Add(200 * time.Minute)}) // longer
	tokens, others := f.set.Len()
	if tokens != 101 || others != 1 {
		t.Fatalf("%d tokens and %d others, want 101 and 1", tokens, others)
	}
	f.heartbeat(start)
	if n, _ := f.set.Len(); n != 101 {
		t.Errorf("%d tokens while none has expired, want 101", n)
	}
	f.heartbeat(start.Add(30 * time.Minute))
	left, others := f.set.Len()
	if left > 101-28 || left < 101-30 || others != 0 {
		t.Errorf("%d tokens and %d others after 30 of 100 minutes", left, others)
	}
	has := func(id keymanager.TokenID) bool {
		v := verdict(999)
		v.TokenID = id
		return f.set.Check(v, api) == Dead
	}
	if !has(keymanager.TokenID{30, 1}) {
		t.Error("forgotten at its expiry, with no time for clocks that differ")
	}
	f.heartbeat(start.Add(150 * time.Minute))
	if !has(keymanager.TokenID{50, 1}) || !has(keymanager.TokenID{200}) || has(keymanager.TokenID{51, 1}) {
		t.Error("the wrong ones are forgotten")
	}
	f.heartbeat(start.Add(24 * 365 * time.Hour)) // a leap
	if n, _ := f.set.Len(); n != 1 {
		t.Errorf("%d tokens are left, want the one that never expires", n)
	}
}

// TestTooManyTokens: what is no longer remembered is asked for again.
func TestTooManyTokens(t *testing.T) {
	f := &feed{t: t, set: New(100)}
	f.snapshot(at(10), keymanager.Dead{ConsumerKey: "ck-9", NotBefore: start.Add(time.Hour)})
	for i := range 101 {
		f.dead(keymanager.Dead{TokenID: keymanager.TokenID{byte(i), 9}, ExpiresAt: start.Add(time.Hour)})
	}
	tokens, others := f.set.Len()
	if tokens != 0 || others != 1 {
		t.Errorf("%d tokens and %d others, want 0 and 1", tokens, others)
	}
	v := verdict(f.pos.Seq - 1)
	v.TokenID = keymanager.TokenID{3, 9}
	if got := f.set.Check(v, api); got != Stale {
		t.Errorf("a dead token's verdict from before is %d, want stale", got)
	}
	if got := f.set.Check(verdict(f.pos.Seq), api); got != Live {
		t.Errorf("a verdict from now is %d, want live", got)
	}
	f.dead(keymanager.Dead{TokenID: keymanager.TokenID{3, 9}})
	if got := f.set.Check(v, api); got != Dead {
		t.Errorf("a token that died since is %d, want dead", got)
	}
}

// TestNothingOutdatedIsLive: whatever the order of events and reads, a verdict
// that an event outdates is never live.
func TestNothingOutdatedIsLive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := &feed{t: t, set: New(5)}
		f.snapshot(at(10))
		last := map[string]uint64{} // subject → number of its last event
		name := func(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }
		pick := func(label string) int { return rapid.IntRange(0, 3).Draw(rt, label) }
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			i := pick("who")
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0:
				f.stale(keymanager.Stale{Application: keymanager.ApplicationID(name("app", i))})
				last[name("app", i)] = f.pos.Seq
			case 1:
				f.stale(keymanager.Stale{User: keymanager.UserID(name("user", i))})
				last[name("user", i)] = f.pos.Seq
			case 2:
				f.dead(keymanager.Dead{TokenID: keymanager.TokenID{byte(i + 1)}})
				last[name("token", i)] = f.pos.Seq
			case 3:
				p := f.pos
				p.Seq++
				f.snapshot(p)
			default:
				app, user, tok := pick("app"), pick("user"), pick("token")
				read := rapid.Uint64Range(1, f.pos.Seq).Draw(rt, "read")
				v := verdict(read)
				v.TokenID = keymanager.TokenID{byte(tok + 1)}
				v.Grant.Application.ID = keymanager.ApplicationID(name("app", app))
				v.Grant.UserID = keymanager.UserID(name("user", user))
				outdated := last[name("app", app)] > read || last[name("user", user)] > read || last[name("token", tok)] > read
				if got := f.set.Check(v, api); outdated && got == Live {
					rt.Fatalf("read at %d of %d, app %d, user %d, token %d: live; events %v", read, f.pos.Seq, app, user, tok, last)
				}
			}
		}
	})
}

// TestNewerIsBeyondWhatIsStale: also between the moment when an event makes a
// verdict stale and the one when Position tells of it. The same verdict, asked
// for anew, would be stale again.
func TestNewerIsBeyondWhatIsStale(t *testing.T) {
	f := loaded(t)
	check := func(what string, v *keymanager.Verdict) {
		t.Helper()
		if got := f.set.Check(v, api); got != Stale {
			t.Errorf("%s: %d, want stale", what, got)
		}
		if since := f.set.Newer(v); since == (keymanager.Position{}) || v.Head.Reached(since) {
			t.Errorf("%s: a verdict read at %v is as new as %v", what, v.Head, since)
		}
	}
	f.set.current.Load().stale.add(keymanager.Stale{Application: "app-1"}, 11)
	check("an event under way", verdict(10))
	f.stale(keymanager.Stale{Application: "app-1"})
	check("an event that has come", verdict(10))
	f.set.current.Store(f.set.current.Load().coarser(at(12)))
	check("a new floor under way", verdict(11))
	f.set.current.Store(&state{floor: keymanager.Position{Epoch: keymanager.Epoch{2}, Seq: 3}})
	check("a new epoch under way", verdict(12))
	foreign := verdict(99)
	foreign.Head.Epoch = keymanager.Epoch{7}
	check("of another epoch", foreign)
}

// TestReadersAndOneWriter is for the race detector: a dead token is never live
// once Position says so.
func TestReadersAndOneWriter(t *testing.T) {
	f := loaded(t)
	const n = 2000
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for {
				done := f.set.Position().Seq
				if done > 10 {
					v := verdict(9)
					v.Head = at(10)
					v.TokenID = token(done)
					if got := f.set.Check(v, api); got != Dead {
						t.Errorf("token %d is %d at position %d", done, got, done)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range n {
		f.dead(keymanager.Dead{TokenID: token(f.pos.Seq + 1)})
	}
	close(stop)
	wait.Wait()
}

func token(seq uint64) keymanager.TokenID { return keymanager.TokenID{255, byte(seq >> 8), byte(seq)} }

func BenchmarkCheck(b *testing.B) {
	bench := func(name string, v *keymanager.Verdict, f *feed) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if f.set.Check(v, api) != Live {
					b.Fatal("not live")
				}
			}
		})
	}
	bench("quiet", verdict(10), loaded(b))
	busy := loaded(b)
	for i := range 1000 {
		busy.dead(keymanager.Dead{TokenID: keymanager.TokenID{9, byte(i), byte(i >> 8)}})
		busy.dead(keymanager.Dead{ConsumerKey: keymanager.ConsumerKey(fmt.Sprint("ck", i)), NotBefore: start})
	}
	busy.stale(keymanager.Stale{Application: "another"})
	bench("busy", verdict(10), busy)
}
