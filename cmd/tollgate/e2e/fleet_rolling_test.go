//go:build !short

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// Clients that try again notice neither the loss of a key manager nor that
// every process is exchanged, one after the other.
func TestFaultFleetRolling(t *testing.T) {
	w := newWorld(t, map[string][]string{"keymanager": {"OPS_DRAIN_WAIT=500ms"}})
	b := w.newBalancer(t, 200)
	b.load.Flows(5, nil)

	t.Run("F11 a key manager killed", func(t *testing.T) {
		users := w.startUsers(t, 4, b.gateways)
		users.goOn(t, 20)
		from := time.Now()
		for _, n := range w.KeyManagers {
			n.Kill()
			users.goOn(t, 40)
			n.Start()
			n.Ready()
			users.goOn(t, 20)
		}
		b.unnoticed(t, from, users)
	})
	t.Run("F62 SIGTERM of every component in turn", func(t *testing.T) {
		users := w.startUsers(t, 4, b.gateways)
		users.goOn(t, 20)
		from := time.Now()
		for _, n := range w.Nodes() {
			b.exchange(t, n, users)
			users.goOn(t, 10)
		}
		b.unnoticed(t, from, users)
	})
	b.load.End()
}

// balancer stands before the gateways: it calls those that say they are ready.
type balancer struct {
	w    *world
	load *rig.Load

	mu   sync.Mutex
	gone map[string]bool
}

func (w *world) newBalancer(t *testing.T, rate int) *balancer {
	t.Helper()
	return &balancer{w: w, load: rig.StartLoad(t, rate, w.shots()), gone: map[string]bool{}}
}

// gateways returns those that are called.
func (b *balancer) gateways() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.w.Gateways), func(g string) bool { return b.gone[g] })
}

func (b *balancer) set(gateway string, gone bool) {
	b.mu.Lock()
	b.gone[gateway] = gone
	b.mu.Unlock()
	b.load.Only(rig.At(b.gateways()...))
}

// unnoticed ends the users, and checks that everything since from was right.
func (b *balancer) unnoticed(t *testing.T, from time.Time, users *users) {
	t.Helper()
	b.load.Flows(5, nil)
	users.check(t)
	b.w.onceInLog(t)
	b.load.AllRight(from, nil)
	b.load.NoneHangs(from, 10*time.Second, nil)
	t.Log(b.load.Summary(from))
}

// exchange ends a process in the way that is documented for its kind, with
// SIGTERM, and starts it again.
func (b *balancer) exchange(t *testing.T, n *rig.Node, users *users) {
	t.Helper()
	if i := slices.Index(b.w.Authz, n); i >= 0 {
		b.handOver(t, i)
		return
	}
	if i := slices.Index(b.w.Envoys, n); i >= 0 {
		b.drained(t, i, users)
		return
	}
	n.Restart()
}

// handOver starts a second authz beside the first; when that has taken the
// socket, the first gets its SIGTERM.
func (b *balancer) handOver(t *testing.T, i int) {
	t.Helper()
	n, socket := b.w.Authz[i], b.w.Socket(i)
	before, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	old := n.Process
	n.Start()
	rig.Eventually(t, n.Name+" takes over", func() error {
		now, err := os.Stat(socket)
		if err == nil && os.SameFile(before, now) {
			err = fmt.Errorf("its predecessor serves, ended: %v", n.Ended())
		}
		return err
	})
	old.Signal(syscall.SIGTERM)
	if err := old.Wait(); err != nil {
		t.Errorf("the predecessor of %s ends with %v\n%s", n.Name, err, old.Stderr())
	}
	n.Ready()
}

// drained takes an Envoy out of service as an operator does. The balancer looks
// at its readiness, and sends nothing more to it.
func (b *balancer) drained(t *testing.T, i int, users *users) {
	t.Helper()
	n, gateway := b.w.Envoys[i], b.w.Gateways[i]
	drained := make(chan string, 1)
	go func() {
		_, stderr, err := b.w.Run(rig.Binary(t), "envoy", "drain", "--admin", n.Ops, "--balancer", "2s", "--rest", "50s")
		if err != nil {
			stderr = fmt.Sprintf("%v\n%s", err, stderr)
		}
		drained <- stderr
	}()
	rig.Eventually(t, n.Name+" says that it is not ready", func() error {
		select {
		case failed := <-drained:
			t.Fatalf("drain of %s ended at once: %s", n.Name, failed)
		default:
		}
		a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/ready")
		if err == nil && a.Status == http.StatusOK {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return err
	})
	b.set(gateway, true)
	rig.Eventually(t, n.Name+" is drained", func() error {
		b.load.CloseIdle() // as a balancer does, and nobody is cut
		users.http.CloseIdleConnections()
		select {
		case failed := <-drained:
			if failed != "" {
				t.Errorf("drain of %s: %s", n.Name, failed)
			}
			return nil
		default:
			return errors.New("it has connections")
		}
	})
	n.Restart()
	b.set(gateway, false)
}
