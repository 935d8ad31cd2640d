//go:build !short

package e2e

import (
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
		p := exec.CommandContext(t.Context(), rig.Binary(t), "serve", "--state", r.State, "--gateway", r.Gateway, "--keymanager", r.KeyManager, "--ops", r.Ops)
		p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		p.Stderr, p.Cancel, p.WaitDelay = writer, func() error { return p.Process.Signal(syscall.SIGTERM) }, rig.Patience
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Wait() })
		_ = writer.Close()
		rig.Eventually(t, "ready", func() error { return ready(r) })
		bootstrap := r.File("bootstrap.json", r.Tollgate("envoy", "bootstrap", "--node", "n", "--memory", "1GiB"))
		r.StartEnvoy(bootstrap, "--concurrency", "1")
		backend(t, r.Production)
		client := r.Admin(t).Apply(t, strings.ReplaceAll(fleetWorld, "PRODUCTION_URL", "http://"+r.Production))["buyer/PRODUCTION"]
		good := r.Issue(t, client)
		answers(t, r, shopItems, good, http.StatusOK)
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
