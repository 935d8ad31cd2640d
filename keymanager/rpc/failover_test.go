package rpc_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/rpc"
)

var someQuery = keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: "live"}, API: "a"}

// pair is two key managers, the first behind a wire that has faults.
type pair struct {
	one, two *keymanagertest.KeyManager
	wire     *rig.Wire
	targets  []string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	var k contracts
	p.one, k = fake(t)
	p.wire = rig.NewWire(t, listen(t, "tcp", k))
	p.two, k = fake(t)
	p.targets = []string{p.wire.Address(), listen(t, "tcp", k)}
	for _, m := range []*keymanagertest.KeyManager{p.one, p.two} {
		m.SetVerdict(someQuery.Credential, "", keymanagertest.ActiveVerdict(1, time.Now()))
	}
	return p
}

// asked returns how many questions a key manager was asked.
func asked(k *keymanagertest.KeyManager) int {
	n, _ := k.Validations()
	return n
}

func ask(t testing.TB, c keymanager.Validator) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := c.Validate(ctx, someQuery)
	if err == nil && v.Reason != keymanager.ReasonActive {
		t.Errorf("a wrong answer: %+v", v)
	}
	return err
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// TestOneOfTwoFails: whatever happens to one key manager of two, no question
// fails, the other one is asked, and the first again when it is well.
func TestOneOfTwoFails(t *testing.T) {
	for name, fault := range map[string]func(*rig.Wire){
		"gone":       (*rig.Wire).Cut,
		"silent":     (*rig.Wire).BlackHole, // as SIGSTOP
		"reset":      (*rig.Wire).Reset,
		"slow close": func(w *rig.Wire) { w.SlowClose(500 * time.Millisecond); w.Cut() },
		"half-way":   func(w *rig.Wire) { w.Limit(10) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			c := dial(t, rpc.ClientOptions{Targets: p.targets, TryTimeout: time.Second})
			both := func() bool {
				if err := ask(t, c); err != nil {
					t.Fatalf("an error while all is well: %v", err)
				}
				return asked(p.one) > 0 && asked(p.two) > 0
			}
			eventually(t, "both are asked", both)
			stop := make(chan struct{})
			var errs atomic.Pointer[error]
			var load sync.WaitGroup
			for range 4 {
				load.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							if err := ask(t, c); err != nil {
								errs.Store(&err)
							}
						}
					}
				})
			}
			fault(p.wire)
			before := asked(p.two)
			// Each of the four may have waited once for the one that is silent.
			eventually(t, "the other one is asked", func() bool { return asked(p.two) > before+200 })
			p.wire.Cut() // what the fault has swallowed must not come back as garbage
			p.wire.Heal()
			before = asked(p.one)
			eventually(t, "the first is asked again", func() bool { return asked(p.one) > before+20 })
			close(stop)
			load.Wait()
			if err := errs.Load(); err != nil {
				t.Errorf("a question failed: %v", *err)
			}
		})
	}
}

// TestOneAfterTheOther: the key manager that was replaced first answers again
// when the second one goes, and no question waits for it to be probed.
func TestOneAfterTheOther(t *testing.T) {
	p := newPair(t)
	second := rig.NewWire(t, p.targets[1])
	c := dial(t, rpc.ClientOptions{Targets: []string{p.targets[0], second.Address()}})
	both := func() {
		one, two := asked(p.one), asked(p.two)
		eventually(t, "both are asked", func() bool {
			if err := ask(t, c); err != nil {
				t.Fatalf("an error while all is well: %v", err)
			}
			return asked(p.one) > one && asked(p.two) > two
		})
	}
	for range 5 {
		both()
		p.wire.Cut()
		for range 20 {
			if err := ask(t, c); err != nil {
				t.Errorf("without the first: %v", err)
			}
		}
		p.wire.Heal()
		second.Cut()
		for range 20 {
			if err := ask(t, c); err != nil {
				t.Fatalf("the first is back, the second is gone: %v", err)
			}
		}
		second.Heal()
	}
}

// TestSlowAndAlone: a key manager gets all the time that is left when the other
// one turns out to be gone, before or after it.
func TestSlowAndAlone(t *testing.T) {
	p := newPair(t)
	second := rig.NewWire(t, p.targets[1])
	c := dial(t, rpc.ClientOptions{Targets: []string{p.targets[0], second.Address()}, TryTimeout: 100 * time.Millisecond})
	two := asked(p.two)
	eventually(t, "both are asked", func() bool { return ask(t, c) == nil && asked(p.two) > two })
	second.Cut()
	for range 5 {
		var calls atomic.Int64
		p.one.OnValidate(func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
			if calls.Add(1) == 1 { // a share of the time is over before it answers
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(300 * time.Millisecond):
				}
			}
			return keymanagertest.ActiveVerdict(1, time.Now()), nil
		})
		if err := ask(t, c); err != nil {
			t.Fatalf("after %d questions: %v", calls.Load(), err)
		}
	}
}

// TestOneAloneFails: an error says "not known", soon, and all is well again by
// itself.
func TestOneAloneFails(t *testing.T) {
	for name, fault := range map[string]func(*rig.Wire){
		"gone": (*rig.Wire).Cut, "silent": (*rig.Wire).BlackHole, "reset": (*rig.Wire).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			c := dial(t, rpc.ClientOptions{Targets: p.targets[:1], TryTimeout: time.Second})
			if err := ask(t, c); err != nil {
				t.Fatal(err)
			}
			fault(p.wire)
			eventually(t, "an error", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				v, err := c.Validate(ctx, someQuery)
				if err != nil && (v != nil || keymanager.KindOf(err) != keymanager.KindUnavailable && !errors.Is(err, context.DeadlineExceeded)) {
					t.Fatalf("%+v, %v", v, err)
				}
				return err != nil
			})
			p.wire.Cut()
			p.wire.Heal()
			eventually(t, "an answer", func() bool { return ask(t, c) == nil })
		})
	}
}

// TestSlowWire: latency and crumbs cost time and nothing else.
func TestSlowWire(t *testing.T) {
	for name, fault := range map[string]func(*rig.Wire){
		"latency": func(w *rig.Wire) { w.Delay(50 * time.Millisecond) }, "crumbs": (*rig.Wire).Slice,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			c := dial(t, rpc.ClientOptions{Targets: p.targets[:1]})
			fault(p.wire)
			for range 5 {
				if err := ask(t, c); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestDatabaseOfOneIsGone: a key manager that answers that it does not know is
// no reason for an error while another one knows.
func TestDatabaseOfOneIsGone(t *testing.T) {
	p := newPair(t)
	c := dial(t, rpc.ClientOptions{Targets: p.targets})
	p.one.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
		return nil, keymanager.Errorf(keymanager.KindUnavailable, "no database")
	})
	for range 50 {
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
	}
	if asked(p.one) == 0 || asked(p.two) < 50 {
		t.Errorf("asked %d and %d times", asked(p.one), asked(p.two))
	}
}

// counting counts connections.
type counting struct {
	net.Listener
	n atomic.Int64
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// TestOneConnection: a thousand questions at once share one connection.
func TestOneConnection(t *testing.T) {
	k, all := fake(t)
	const calls = 1000
	var arrived sync.WaitGroup
	arrived.Add(calls)
	k.OnValidate(func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
		arrived.Done()
		arrived.Wait() // all at once, or none returns
		return keymanagertest.ActiveVerdict(1, time.Now()), nil
	})
	l := &counting{Listener: listener(t, "tcp")}
	c := dial(t, rpc.ClientOptions{Targets: []string{serve(t, l, all).target}})
	var asking sync.WaitGroup
	for range calls {
		asking.Go(func() {
			if err := ask(t, c); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	if n := l.n.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestNames: all addresses of a name are used, also when they change.
func TestNames(t *testing.T) {
	one, k1 := fake(t)
	two, k2 := fake(t)
	for _, k := range []*keymanagertest.KeyManager{one, two} {
		k.SetVerdict(someQuery.Credential, "", keymanagertest.ActiveVerdict(1, time.Now()))
	}
	target := listen(t, "tcp", k1)
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	second, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, second, k2)
	var addresses atomic.Pointer[[]netip.Addr]
	set := func(list ...string) {
		var parsed []netip.Addr
		for _, s := range list {
			parsed = append(parsed, netip.MustParseAddr(s))
		}
		addresses.Store(&parsed)
	}
	set() // nothing known so far
	c := dial(t, rpc.ClientOptions{
		Targets: []string{"localhost:" + port}, ResolveEvery: 10 * time.Millisecond,
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "localhost" {
				return nil, errors.New("asked for " + strconv.Quote(host))
			}
			if list := *addresses.Load(); len(list) > 0 {
				return list, nil
			}
			return nil, errors.New("no such host")
		},
	})
	if err := ask(t, c); keymanager.KindOf(err) != keymanager.KindUnavailable || err == nil {
		t.Errorf("without an address: %v", err)
	}
	set("127.0.0.1", "127.0.0.2", "192.0.2.1") // the last is another machine: never without TLS
	eventually(t, "an answer", func() bool { return ask(t, c) == nil })
	eventually(t, "both are asked", func() bool {
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
		return asked(one) > 0 && asked(two) > 0
	})
	set("127.0.0.2")
	alone := 0
	eventually(t, "the second is asked alone", func() bool {
		before := asked(one)
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
		if alone++; asked(one) != before {
			alone = 0
		}
		return alone == 50
	})
	set() // the name service fails: what is known stays
	for range 50 {
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConnectionsAge: a connection that has served its time is replaced without
// an error.
func TestConnectionsAge(t *testing.T) {
	k, all := fake(t)
	k.SetVerdict(someQuery.Credential, "", keymanagertest.ActiveVerdict(1, time.Now()))
	l := &counting{Listener: listener(t, "tcp")}
	serve(t, l, all, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: patience}))
	c := dial(t, rpc.ClientOptions{Targets: []string{l.Addr().String()}})
	eventually(t, "a fourth connection", func() bool {
		if err := ask(t, c); err != nil {
			t.Fatal(err)
		}
		return l.n.Load() >= 4
	})
}

// TestClosed: nothing works on a closed client, and nothing hangs.
func TestClosed(t *testing.T) {
	_, k := fake(t)
	c := dial(t, rpc.ClientOptions{Targets: []string{listen(t, "unix", k)}})
	ended := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		var once sync.Once
		ended <- c.Follow(context.Background(), keymanager.Position{}, func(keymanager.Event) error {
			once.Do(func() { close(begun) })
			return nil
		})
	}()
	<-begun
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("the stream ended with %v", err)
	}
	for name, call := range calls {
		if err := call(t.Context(), c); keymanager.KindOf(err) != keymanager.KindUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
