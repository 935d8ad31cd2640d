//go:build faults

package authz

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/keymanager"
)

// patient is the deadline of a call that is not about deadlines.
const patient = 20 * time.Second

// TestFaultProcess has an authz of its own stopped, starved and flooded.
func TestFaultProcess(t *testing.T) {
	t.Run("F21 stopped for longer than max_stale", func(t *testing.T) {
		api := petsAPI()
		strict := time.Duration(0)
		api.MaxStale = &strict
		c := startChild(t, api, nil)
		c.issue(1, goodToken)
		c.issue(2, goodToken+"dead")
		eventually(t, "both pass", func() bool {
			return c.ask(t, c.client, goodToken, patient) == 200 && c.ask(t, c.client, goodToken+"dead", patient) == 200
		})
		calls, _ := c.km.Validations()
		if c.ask(t, c.client, goodToken, patient) != 200 {
			t.Fatal("a cached one does not pass")
		}
		if now, _ := c.km.Validations(); now != calls {
			t.Fatal("nothing is cached")
		}
		must(t, c.cmd.Process.Signal(syscall.SIGSTOP))
		stopped := time.Now()
		c.km.Kill(keymanager.Dead{TokenID: keymanager.TokenID{2}})
		// The key manager knows it too.
		c.km.SetVerdict(keymanagerToken(goodToken+"dead"), "", &keymanager.Verdict{Reason: keymanager.ReasonRevoked, TokenID: keymanager.TokenID{2}})
		// What is asked meanwhile is what is decided first.
		const asked = 50
		var wait sync.WaitGroup
		var allowed, dead atomic.Int64
		for range asked {
			wait.Go(func() {
				if c.ask(t, c.client, goodToken, time.Minute) == 200 {
					allowed.Add(1)
				}
			})
			wait.Go(func() {
				if c.ask(t, c.client, goodToken+"dead", time.Minute) == 200 {
					dead.Add(1)
				}
			})
		}
		eventually(t, "longer than max_stale and the watchdog", func() bool { return time.Since(stopped) > 6*time.Second })
		must(t, c.cmd.Process.Signal(syscall.SIGCONT))
		wait.Wait()
		if dead.Load() != 0 {
			t.Errorf("%d of %d calls passed with a token that was revoked meanwhile", dead.Load(), asked)
		}
		if now, _ := c.km.Validations(); allowed.Load() > 0 && now == calls {
			t.Errorf("%d calls passed by the caches", allowed.Load())
		}
		eventually(t, "well again", func() bool {
			return c.ask(t, c.client, goodToken, patient) == 200 && c.ask(t, c.client, goodToken+"dead", patient) == 401
		})
		c.lives(t) // it was stopped, and did not hang
	})
	t.Run("F80 flood in little memory", func(t *testing.T) {
		const limit = 256 // MiB
		c := startChild(t, petsAPI(), []string{"GOMEMLIMIT=180MiB", "GOGC=400"})
		c.issue(1, goodToken)
		eventually(t, "ready", func() bool { return c.ask(t, c.client, goodToken, patient) == 200 })
		// Every one of these is a token of ours that nobody has seen, a forged
		// one, or a header as large as they come.
		large := strings.Repeat("x", 60<<10)
		var wait sync.WaitGroup
		var sent atomic.Int64
		for worker := range 64 {
			wait.Go(func() {
				conn := c.dial(t)
				defer conn.Close()
				client := authv3.NewAuthorizationClient(conn)
				for i := range 2500 {
					token := fmt.Sprintf("%s-%d-%d", goodToken, worker, i)
					switch i % 8 {
					case 6:
						token = "tgat_bad" + token
					case 7:
						token = large + token
					}
					if got := c.ask(t, client, token, patient); got == 200 {
						t.Errorf("%.20s passes", token)
					}
					sent.Add(1)
				}
			})
		}
		wait.Wait()
		c.lives(t)
		if peak := c.megabytes(t, "VmHWM"); peak > limit {
			t.Errorf("%d MiB at its peak after %d calls, want at most %d", peak, sent.Load(), limit)
		} else {
			t.Logf("%d MiB at its peak, %d calls", peak, sent.Load())
		}
		eventually(t, "well again", func() bool { return c.ask(t, c.client, goodToken, patient) == 200 })
	})
	t.Run("F81 256 descriptors", func(t *testing.T) {
		c := startChild(t, petsAPI(), nil, "/bin/sh", "-c", `ulimit -n 256 && exec "$0"`)
		c.issue(1, goodToken)
		eventually(t, "ready", func() bool { return c.ask(t, c.client, goodToken, patient) == 200 })
		var open []net.Conn
		for range 400 {
			conn, err := net.DialTimeout("unix", filepath.Join(c.dir, "authz.sock"), time.Second)
			if err != nil {
				break // its queue is full too
			}
			open = append(open, conn)
		}
		if len(open) < 200 {
			t.Fatalf("only %d connections", len(open))
		}
		late := c.dial(t)
		defer late.Close()
		newcomer := authv3.NewAuthorizationClient(late)
		eventually(t, "a newcomer gets no answer in time", func() bool { return c.ask(t, newcomer, goodToken, time.Second) == 0 })
		if got := c.ask(t, c.client, goodToken, patient); got != 200 {
			t.Errorf("who is connected gets %d", got)
		}
		c.lives(t)
		for _, conn := range open {
			_ = conn.Close()
		}
		eventually(t, "a newcomer is answered", func() bool { return c.ask(t, newcomer, goodToken, patient) == 200 })
		c.lives(t)
	})
}
