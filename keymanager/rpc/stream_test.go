package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/rpc"
)

var onlyAPIs = []keymanager.CatalogKind{keymanager.CatalogAPI}

// gateway follows the catalog as authz and xds do: from its position, again and
// again, with what a snapshot brings swapped in at its end.
type gateway struct {
	mu       sync.Mutex
	cursor   keymanager.Cursor
	apis     map[keymanager.APIID]*keymanager.API
	next     map[keymanager.APIID]*keymanager.API
	begun    int
	complete int
	ends     []error
}

// run follows until the test ends.
func (g *gateway) run(t *testing.T, c keymanager.Catalog) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			g.mu.Lock()
			from := g.cursor.Start()
			g.mu.Unlock()
			err := c.Watch(ctx, from, onlyAPIs, g.take)
			g.mu.Lock()
			g.ends = append(g.ends, err)
			g.mu.Unlock()
			if ctx.Err() == nil && keymanager.KindOf(err) != keymanager.KindUnavailable {
				t.Errorf("the stream ended with %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
}

func (g *gateway) take(c keymanager.Change) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	inside := g.cursor.InSnapshot()
	if err := g.cursor.Accept(c.Mark); err != nil {
		return fmt.Errorf("a gap: %w", err)
	}
	switch {
	case c.Type == keymanager.SnapshotBegin:
		g.next = map[keymanager.APIID]*keymanager.API{}
		g.begun++
	case c.Type == keymanager.SnapshotEnd:
		g.apis, g.next = g.next, nil
		g.complete++
	case c.API != nil && inside:
		g.next[c.API.ID] = c.API
	case c.API != nil:
		g.apis[c.API.ID] = c.API
	case c.RemovedAPI != "":
		delete(g.apis, c.RemovedAPI)
	}
	return nil
}

func (g *gateway) at(pos keymanager.Position) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cursor.Position().Reached(pos)
}

func (g *gateway) state() (apis, begun, complete, ended int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.apis), g.begun, g.complete, len(g.ends)
}

// replicas are two servers of one key manager's log, the first behind a wire.
func replicas(t *testing.T, apis int) (*keymanagertest.KeyManager, *rig.Wire, []string) {
	t.Helper()
	k, all := fake(t)
	for i := range apis {
		k.SetAPI(keymanagertest.SampleAPI(keymanager.APIID(fmt.Sprint("n", i))))
	}
	k.Prune() // who was never here gets a snapshot
	w := rig.NewWire(t, listen(t, "tcp", all))
	return k, w, []string{w.Address(), listen(t, "tcp", all)}
}

// TestSnapshotBreaksOff: cut anywhere within a snapshot, nothing of it is taken
// for the whole, and the next stream brings all of it.
func TestSnapshotBreaksOff(t *testing.T) {
	const apis = 300
	_, w, targets := replicas(t, apis)
	w.Limit(40_000) // of some 80 kB
	g := &gateway{}
	g.run(t, dial(t, rpc.ClientOptions{Targets: targets[:1]}))
	eventually(t, "three snapshots that broke off", func() bool { _, begun, _, ended := g.state(); return begun >= 3 && ended >= 3 })
	if n, _, complete, _ := g.state(); n != 0 || complete != 0 {
		t.Errorf("%d APIs are known of %d snapshots that were complete", n, complete)
	}
	w.Heal()
	eventually(t, "all APIs", func() bool { n, _, _, _ := g.state(); return n == apis+1 })
}

// TestStreamBreaks: after any break the stream goes on where it was, without a
// gap and without a snapshot, with another key manager if there is one.
func TestStreamBreaks(t *testing.T) {
	for name, fault := range map[string]func(*rig.Wire){
		"gone": (*rig.Wire).Cut, "silent": (*rig.Wire).BlackHole, "reset": (*rig.Wire).Reset,
	} {
		for _, replicasLeft := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, another: %t", name, replicasLeft), func(t *testing.T) {
				k, w, targets := replicas(t, 5)
				if !replicasLeft {
					targets = targets[:1]
				}
				g := &gateway{}
				g.run(t, dial(t, rpc.ClientOptions{Targets: targets, TryTimeout: time.Second, Silence: 500 * time.Millisecond}))
				eventually(t, "the catalog", func() bool { return g.at(k.Head()) })
				for i := range 3 {
					fault(w)
					pos := k.SetAPI(keymanagertest.SampleAPI(keymanager.APIID(fmt.Sprint("new", i))))
					if replicasLeft {
						eventually(t, "what changed meanwhile", func() bool { return g.at(pos) })
					} else {
						_, _, _, before := g.state()
						eventually(t, "an end", func() bool { _, _, _, now := g.state(); return now > before })
					}
					w.Cut()
					w.Heal()
					eventually(t, "what changed meanwhile", func() bool { return g.at(pos) })
				}
				if n, _, complete, _ := g.state(); n != 9 || complete != 1 {
					t.Errorf("%d APIs after %d snapshots, want 9 after one", n, complete)
				}
			})
		}
	}
}

// TestHeartbeatsStop: a key manager that hangs, though its connection is well,
// is left.
func TestHeartbeatsStop(t *testing.T) {
	hung, k1 := fake(t)
	well, k2 := fake(t)
	c := dial(t, rpc.ClientOptions{Targets: []string{listen(t, "unix", k1), listen(t, "unix", k2)}, Silence: 300 * time.Millisecond})
	events := make(chan keymanager.Event, 1000)
	follow := func() error {
		return c.Follow(t.Context(), keymanager.Position{}, func(e keymanager.Event) error {
			select {
			case events <- e:
			default:
			}
			return nil
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- follow() }()
	<-events
	if hung.Open(keymanagertest.RevocationsStream) == 0 {
		hung, well = well, hung
	}
	hung.Mute(true)
	if err := <-ended; keymanager.KindOf(err) != keymanager.KindUnavailable || !strings.Contains(err.Error(), "nothing came") {
		t.Errorf("ended with %v", err)
	}
	go func() { ended <- follow() }()
	eventually(t, "a stream of the other one", func() bool { return well.Open(keymanagertest.RevocationsStream) == 1 })
	if n := hung.Opened(keymanagertest.RevocationsStream); n != 1 {
		t.Errorf("the one that hangs was asked %d times", n)
	}
	well.Down(keymanager.Errorf(keymanager.KindUnavailable, "no database"))
	if err := <-ended; keymanager.KindOf(err) != keymanager.KindUnavailable || !strings.Contains(err.Error(), "no database") {
		t.Errorf("ended with %v", err)
	}
}

// loading is a catalog that takes long for its first message.
type loading struct {
	keymanager.Catalog
	ready chan struct{}
}

func (l loading) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	select {
	case <-l.ready:
		return l.Catalog.Watch(ctx, from, kinds, fn)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestLongLoad: a stream whose beginning takes longer than a silence may last
// is not given up, but not waited for without end either.
func TestLongLoad(t *testing.T) {
	k, _ := fake(t)
	slow := loading{k, make(chan struct{})}
	server := func(limit time.Duration) string {
		return serveWith(t, listener(t, "unix"), rpc.ServerOptions{Validator: k, Catalog: slow, Revocations: k, Gateways: k, LoadTimeout: limit}).target
	}
	begun := time.Now()
	patient := dial(t, rpc.ClientOptions{Targets: []string{server(patience)}, TryTimeout: patience, Silence: 1500 * time.Millisecond})
	got := make(chan error, 1)
	go func() {
		got <- patient.Watch(t.Context(), keymanager.Position{}, onlyAPIs, func(keymanager.Change) error { return errEnough })
	}()
	limited := dial(t, rpc.ClientOptions{Targets: []string{server(time.Millisecond)}})
	if err := limited.Watch(t.Context(), keymanager.Position{}, onlyAPIs, func(keymanager.Change) error { return errEnough }); keymanager.KindOf(err) != keymanager.KindUnavailable || !strings.Contains(err.Error(), "load") {
		t.Errorf("ended with %v", err)
	}
	select {
	case err := <-got: // too soon, unless this machine was very slow
		if time.Since(begun) < 1500*time.Millisecond {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(3 * time.Second):
		close(slow.ready)
		if err := <-got; !errors.Is(err, errEnough) {
			t.Errorf("ended with %v", err)
		}
	}
}

// endless is a catalog that has always more to send.
type endless struct {
	keymanager.Catalog
	sent atomic.Int64
	done chan struct{}
}

func (e *endless) Watch(_ context.Context, _ keymanager.Position, _ []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	defer close(e.done)
	a := keymanagertest.SampleAPI("a")
	a.Hosts = []string{strings.Repeat("x", 10_000)}
	for seq := uint64(1); ; seq++ {
		if err := fn(keymanager.Change{Mark: keymanager.Mark{Type: keymanager.Item, At: keymanager.Position{Seq: seq}}, API: a}); err != nil {
			return err
		}
		e.sent.Add(1)
	}
}

// TestSlowReceiver: what a receiver does not take is not collected for it, and
// one that takes nothing is given up.
func TestSlowReceiver(t *testing.T) {
	k, _ := fake(t)
	k.SetVerdict(someQuery.Credential, "", keymanagertest.ActiveVerdict(1, time.Now()))
	source := &endless{Catalog: k, done: make(chan struct{})}
	target := serveWith(t, listener(t, "unix"), rpc.ServerOptions{Validator: k, Catalog: source, Revocations: k, Gateways: k, SendTimeout: 500 * time.Millisecond}).target
	c := dial(t, rpc.ClientOptions{Targets: []string{target}})
	release := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- c.Watch(t.Context(), keymanager.Position{}, onlyAPIs, func(keymanager.Change) error { <-release; return nil })
	}()
	<-source.done
	if n := source.sent.Load(); n > 500 { // 5 MB
		t.Errorf("%d messages of 10 kB were taken from the source for a receiver that takes none", n)
	}
	if err := ask(t, c); err != nil { // others on the same connection do not notice
		t.Error(err)
	}
	close(release)
	if err := <-ended; keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("ended with %v", err)
	}
}

// TestStreamAge: a stream that has lasted long enough is chosen again, and one
// of a server that stops goes elsewhere.
func TestStreamAge(t *testing.T) {
	var ks []*keymanagertest.KeyManager
	var servers []*served
	var targets []string
	for range 2 {
		k, _ := fake(t)
		ks = append(ks, k)
		s := serveWith(t, listener(t, "unix"), rpc.ServerOptions{Validator: k, Catalog: k, Revocations: k, Gateways: k, StreamAge: 50 * time.Millisecond})
		servers, targets = append(servers, s), append(targets, s.target)
	}
	c := dial(t, rpc.ClientOptions{Targets: targets})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for ctx.Err() == nil {
			if err := c.Follow(ctx, keymanager.Position{}, func(keymanager.Event) error { return nil }); ctx.Err() == nil && keymanager.KindOf(err) != keymanager.KindUnavailable {
				t.Errorf("ended with %v", err)
			}
		}
	}()
	defer func() { cancel(); <-stopped }()
	opened := func(i int) int { return ks[i].Opened(keymanagertest.RevocationsStream) }
	eventually(t, "streams of both", func() bool { return opened(0) > 2 && opened(1) > 2 })
	servers[0].rpc.Drain()
	eventually(t, "no stream at the one that stops", func() bool {
		before, other := opened(0), opened(1)
		eventually(t, "streams of the other", func() bool { return opened(1) > other+5 })
		return opened(0) == before
	})
	servers[0].grpc.GracefulStop() // nothing holds it up
}
