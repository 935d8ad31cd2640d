//go:build faults

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/keymanager"
)

// What happens beside a gateway of a fleet: its authz hangs or has lost its
// socket, nobody publishes, back ends are away.
func TestFaultFleetGateways(t *testing.T) {
	w := newWorld(t, map[string][]string{"authz": {"AUTHZ_MAX_STALE=5s"}})
	load := rig.StartLoad(t, 60, w.shots())
	load.Flows(5, nil)
	others := rig.At(w.Gateways[1:]...)
	leaks := w.leaks(t)
	for _, row := range []struct {
		name  string
		fault func(*testing.T, *rig.Load)
		well  func(*rig.Shot) bool // must be right all the time; nil: as the row itself says
	}{
		{"F71 authz stopped", w.authzStopped, others},
		{"F71 socket removed", w.socketRemoved, others},
		{"F21 authz stopped for longer than max_stale", w.authzOld, others},
		{"F70 xds killed and stopped, over and over", w.xdsFlaps, func(*rig.Shot) bool { return true }},
		{"F73 Envoy killed while no xds is there", w.envoyAlone, others},
		{"F72 back end down", w.backendDown, func(*rig.Shot) bool { return true }},
		{"F13 all key managers down past max_stale", w.nobodyKnows, nil},
		{"F84 Redis dead and a key manager killed", w.redisAndKeyManager, nil},
		{"F84 PostgreSQL dead and authz restarted", w.postgresAndAuthz, nil},
		{"F44 50 gateways start at once", w.herd, hot},
	} {
		t.Run(row.name, func(t *testing.T) {
			from := time.Now()
			row.fault(t, load)
			load.Flows(5, nil)
			w.issueAndRevoke(t, nil, w.Gateways)
			right, undecided := load.NoneWrong(from)
			if row.well != nil {
				load.AllRight(from, row.well)
			}
			load.NoneHangs(from, 10*time.Second, nil)
			t.Logf("%d right, %d undecided: %s", right, undecided, load.Summary(from))
		})
	}
	leaks()
	load.End()
}

// authzStopped: Envoy waits as long as it is told (the rig tells it 5 s, for
// machines that are busy) and refuses, and knows that it may ask
// again.
func (w *world) authzStopped(t *testing.T, load *rig.Load) {
	stopped := time.Now()
	w.Authz[0].Freeze()
	w.at(t, w.Gateways[:1], shopItems, w.good, 503, "900900")
	w.at(t, w.Gateways[:1], shopItems, w.dead, 503, "900900")
	load.Flows(10, rig.At(w.Gateways[1:]...))
	w.Authz[0].Thaw()
	w.at(t, w.Gateways[:1], shopItems, w.good, 200, "")
	load.NoneHangs(stopped, 10*time.Second, nil)
}

// socketRemoved: who is connected goes on; authz puts its socket back, so that a
// new Envoy finds it without a restart of authz.
func (w *world) socketRemoved(t *testing.T, load *rig.Load) {
	from := time.Now()
	if err := os.Remove(w.Socket(0)); err != nil {
		t.Fatal(err)
	}
	load.Flows(10, nil)
	load.AllRight(from, nil)
	w.Envoys[0].Kill()
	w.Envoys[0].Start()
	w.Envoys[0].Ready()
	w.at(t, w.Gateways[:1], shopItems, w.good, 200, "")
	w.at(t, w.Gateways[:1], shopItems, w.dead, 401, "900901")
}

// authzOld: what an authz remembers from before it stood still is not what it
// decides from first.
func (w *world) authzOld(t *testing.T, _ *rig.Load) {
	victim := w.Issue(t, w.client)
	w.at(t, w.Gateways[:1], shopItems, victim, 200, "")
	shots := rig.StartLoad(t, 50, []rig.Shot{{Name: "victim", Gateway: w.Gateways[0], Path: shopItems, Header: rig.Bearer(victim), Status: 200}})
	shots.Flows(3, nil)
	w.Authz[0].Freeze()
	stopped := time.Now()
	w.revoke(t, w.KeyManager, victim)
	revoked := time.Now()
	rig.Eventually(t, "longer than max_stale", func() error {
		if time.Since(stopped) < 7*time.Second {
			return errors.New("not yet")
		}
		return nil
	})
	w.Authz[0].Thaw()
	w.at(t, w.Gateways[:1], shopItems, victim, 401, "900901")
	shots.End()
	passed := 0
	for _, c := range shots.Calls(stopped) {
		if c.Status == 200 && c.End.After(revoked) {
			passed++
		}
	}
	if passed > 0 {
		t.Errorf("a revoked token passed %d times", passed)
	}
}

// xdsFlaps: Envoys go on with what they have, and nothing is given to them anew.
func (w *world) xdsFlaps(t *testing.T, load *rig.Load) {
	var before []string
	for _, e := range w.Envoys {
		before = append(before, reloads(t, e))
	}
	for i := range 10 {
		n := w.XDS[i%2]
		if i%4 < 2 {
			n.Kill()
			load.Flows(2, nil)
			n.Start()
		} else {
			n.Freeze()
			load.Flows(2, nil)
			n.Thaw()
		}
		n.Ready()
	}
	for i, e := range w.Envoys {
		if now := reloads(t, e); now != before[i] {
			t.Errorf("%s has exchanged what it has:\n%s\nthen\n%s", e.Name, before[i], now)
		}
	}
}

// reloads are the counters of what an Envoy has been given anew.
func reloads(t *testing.T, n *rig.Node) string {
	t.Helper()
	a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/stats?filter=(cluster|listener)_(added|modified|removed)$")
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("%s: %d %v", n.Name, a.Status, err)
	}
	return a.Body
}

// envoyAlone: an Envoy without a configuration takes no call.
func (w *world) envoyAlone(t *testing.T, _ *rig.Load) {
	for _, n := range w.XDS {
		n.Kill()
	}
	e := w.Envoys[0]
	e.Kill()
	e.Start()
	rig.Eventually(t, "it looks for an xds", func() error {
		a, err := rig.Do(http.MethodGet, "http://"+e.Ops+"/ready")
		if err == nil && a.Status != http.StatusServiceUnavailable {
			t.Fatalf("it is ready without a configuration: %d %s", a.Status, a.Body)
		}
		return err
	})
	if a, err := call(w.Gateways[0], shopItems, w.good); err == nil {
		t.Errorf("it answers without a configuration: %d %s", a.Status, a.Body)
	}
	for _, n := range w.XDS {
		n.Start()
	}
	e.Ready()
}

// backendDown: that a back end is away is neither authz's business nor its
// count, and refusals go on.
func (w *world) backendDown(t *testing.T, _ *rig.Load) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(l net.Listener) *http.Server {
		s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		go func() { _ = s.Serve(l) }()
		return s
	}
	server := serve(l)
	w.admin.Apply(t, oneAPI("flaky", "PUBLISHED", l.Addr().String())+subscribed("flaky", "UNBLOCKED"))
	const flaky = "/flaky/1.0.0/items"
	w.everywhere(t, flaky, w.good, 200, "")
	_ = server.Close()
	for _, gateway := range w.Gateways {
		rig.Eventually(t, "it is away", func() error {
			a, err := call(gateway, flaky, w.good)
			if err == nil && (a.Status != 503 && a.Status != 502 || a.Code() == "900900") {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
	}
	w.everywhere(t, flaky, w.dead, 401, "900901")
	w.everywhere(t, flaky, "tgat_forged", 401, "900901")
	if l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server = serve(l)
	w.everywhere(t, flaky, w.good, 200, "")
	w.admin.Apply(t, oneAPI("flaky", "CREATED", l.Addr().String()))
	_ = server.Close()
}

// nobodyKnows: after max_stale nothing is decided, and when the key managers are
// back everything is, at once.
func (w *world) nobodyKnows(t *testing.T, load *rig.Load) {
	for _, n := range w.KeyManagers {
		n.Kill()
	}
	for _, tok := range []string{w.good, w.dead} {
		w.everywhere(t, shopItems, tok, 503, "900900")
	}
	blind := time.Now()
	for _, n := range w.KeyManagers {
		n.Start()
	}
	for _, n := range slices.Concat(w.KeyManagers, w.Authz) {
		n.Ready()
	}
	back := time.Now()
	load.Flows(5, nil)
	for _, n := range w.Authz {
		if phase, err := n.Metric(`tollgate_authz_phase{phase="LIVE"}`); err != nil || phase != "1" {
			t.Errorf("%s is live: %q, %v", n.Name, phase, err)
		}
	}
	load.AllRight(back.Add(time.Second), nil)
	t.Logf("ready %v after the start of the key managers", back.Sub(blind))
}

// redisAndKeyManager: what is left knows everything.
func (w *world) redisAndKeyManager(t *testing.T, load *rig.Load) {
	w.Redis.Kill()
	w.KeyManagers[0].Kill()
	w.issueAndRevoke(t, w.KeyManagers[0], w.Gateways)
	load.Flows(10, nil)
	w.Redis.Restart()
	w.KeyManagers[0].Start()
	w.KeyManagers[0].Ready()
}

// postgresAndAuthz: an authz that begins anew knows nothing, or what it knows
// is right.
func (w *world) postgresAndAuthz(t *testing.T, load *rig.Load) {
	cold := w.Issue(t, w.client)
	w.Postgres.Kill()
	n := w.Authz[0]
	n.Kill()
	n.Start()
	w.at(t, w.Gateways[:1], shopItems, cold, 503, "900900")
	load.Flows(10, func(s *rig.Shot) bool { return hot(s) && s.Gateway != w.Gateways[0] })
	w.Postgres.Start()
	n.Ready()
	w.everywhere(t, shopItems, cold, 200, "")
}

// herd: as many gateways as a large site has begin at the same moment, with a
// log full of revocations. All are loaded, and those that were there notice
// nothing.
func (w *world) herd(t *testing.T, load *rig.Load) {
	const gateways, dead = 50, 10_000
	w.revokeMany(t, dead)
	w.remembers(t, w.Authz, dead)
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	var wait sync.WaitGroup
	for i := range gateways {
		wait.Go(func() {
			client, err := w.Peer(fmt.Sprintf("authz/herd/authz-%d", i))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = client.Close() }()
			var apis, tokens int
			stop := errors.New("loaded")
			err = client.Watch(ctx, keymanager.Position{}, []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
				if c.API != nil {
					apis++
				}
				if c.Type == keymanager.SnapshotEnd {
					return stop
				}
				return nil
			})
			if !errors.Is(err, stop) || apis == 0 {
				t.Errorf("gateway %d: %d APIs, %v", i, apis, err)
			}
			err = client.Follow(ctx, keymanager.Position{}, func(e keymanager.Event) error {
				if e.Dead != nil {
					tokens++
				}
				if e.Type == keymanager.SnapshotEnd {
					return stop
				}
				return nil
			})
			if !errors.Is(err, stop) || tokens < dead {
				t.Errorf("gateway %d: %d revocations, %v", i, tokens, err)
			}
		})
	}
	wait.Wait()
	load.Flows(5, nil)
	for _, n := range w.KeyManagers {
		if a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/readyz"); err != nil || !strings.Contains(a.Body, "ready") || a.Status != 200 {
			t.Errorf("%s: %d %s %v", n.Name, a.Status, a.Body, err)
		}
	}
}
