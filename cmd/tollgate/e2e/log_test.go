//go:build !short

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

// Nobody takes what the process logs: decisions go on, and what is lost of the
// log is counted.
func TestFaultStalledLog(t *testing.T) {
	t.Run("F82 the reader of standard error stands still", func(t *testing.T) {
		r := rig.New(t)
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reader.Close() }() // never read
		start := func(program string, stderr *os.File, args ...string) {
			p := exec.CommandContext(t.Context(), program, args...)
			p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			p.Stderr, p.Cancel = stderr, func() error { return p.Process.Signal(syscall.SIGTERM) }
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Wait() })
		}
		start(rig.Binary(t), writer, "serve", "--state", r.State, "--gateway", r.Gateway, "--keymanager", r.KeyManager, "--ops", r.Ops)
		_ = writer.Close()
		rig.Eventually(t, "ready", func() error {
			a, err := rig.Do(http.MethodGet, "http://"+r.Ops+"/readyz")
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
		bootstrap := r.File("bootstrap.json", r.Tollgate("envoy", "bootstrap", "--node", "n", "--memory", "1GiB"))
		start(r.Envoy, nil, "-c", bootstrap, "--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart")
		backend(t, r.Production)
		client := r.Admin(t).Apply(t, strings.ReplaceAll(fleetWorld, "PRODUCTION_URL", "http://"+r.Production))["buyer/PRODUCTION"]
		good := r.Issue(t, client)
		rig.Eventually(t, "the gateway decides", func() error {
			a, err := call(r.Gateway, shopItems, good)
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
		http1 := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: rig.Patience}
		defer http1.CloseIdleConnections()
		for metric(t, r, "tollgate_log_dropped_lines_total") == 0 {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 200 {
						if a, err := rig.DoWith(http1, http.MethodGet, "http://"+r.Gateway+shopItems); err != nil || a.Status != http.StatusUnauthorized {
							t.Errorf("a call without a token is answered %d %s, %v", a.Status, a.Body, err)
							return
						}
					}
				})
			}
			if all.Wait(); t.Failed() {
				return
			}
		}
		want(t, "a call with nowhere to log", r.Get(shopItems, good), http.StatusOK, "")
		want(t, "a refusal with nowhere to log", r.Get(shopItems, "tgat_forged"), http.StatusUnauthorized, "900901")
	})
}
