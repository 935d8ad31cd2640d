//go:build !short

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// After kill -9 at any moment the next start works, prints the same, and
// nothing that was answered is lost or undone.
func TestKilledAtAnyMoment(t *testing.T) {
	r := rig.New(t)
	var page, revoked string
	var applied []string
	for round := range 6 {
		p := r.Dev()
		if round%2 == 0 { // while it starts: before, in and after the first writes
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
			p.Kill()
			continue
		}
		printed := p.WaitOutput(readyLine)
		if page != "" && printed != page {
			t.Errorf("another page after a crash:\n%s\nbefore:\n%s", printed, page)
		}
		page = printed
		tok := token(t, r, "demo.json")
		want(t, "a token of this run", r.Get("/pets/1.0.0/pets", tok), 200, "")
		if revoked != "" {
			want(t, "a token revoked before the crash", r.Get("/pets/1.0.0/pets", revoked), 401, "900901")
		}
		for _, name := range applied {
			want(t, name+", applied before the crash", r.Get("/"+name+"/1.0.0/open", ""), 200, "")
		}
		revoke(t, r, tok)
		revoked = tok
		name := fmt.Sprintf("api%d", round)
		apply(t, r, sampleAPI(r, name))
		applied = append(applied, name)
		envoys := rig.Children(t, p.Pid())
		p.Kill() // while the log's events may still be on their way
		for _, pid := range envoys {
			rig.Eventually(t, "an Envoy dies with its parent", func() error {
				if rig.Alive(pid) {
					return fmt.Errorf("process %d lives", pid)
				}
				return nil
			})
		}
	}
	if len(applied) != 3 {
		t.Fatalf("%d rounds came to an answer", len(applied))
	}
	p := r.Dev()
	p.WaitOutput(readyLine)
	for _, name := range applied {
		want(t, name, r.Get("/"+name+"/1.0.0/open", ""), 200, "")
	}
	want(t, "revoked", r.Get("/pets/1.0.0/pets", revoked), 401, "900901")
	p.Stop()
}

func revoke(t *testing.T, r *rig.Rig, tok string) {
	t.Helper()
	key, secret := credentials(t, r, "demo.json")
	res, err := http.PostForm("http://"+r.KeyManager+"/oauth2/revoke", url.Values{"token": {tok}, "client_id": {key}, "client_secret": {secret}})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("revoke: %d", res.StatusCode)
	}
}

// A killed Envoy is started again and serves the same.
func TestEnvoyKilled(t *testing.T) {
	r, p := dev(t)
	tok := token(t, r, "demo.json")
	for range 2 {
		envoys := rig.Children(t, p.Pid())
		if len(envoys) != 1 {
			t.Fatalf("children %v", envoys)
		}
		if err := syscall.Kill(envoys[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		rig.Eventually(t, "another Envoy", func() error {
			now := rig.Children(t, p.Pid())
			if len(now) != 1 || now[0] == envoys[0] {
				return fmt.Errorf("children %v", now)
			}
			return nil
		})
		answers(t, r, "/pets/1.0.0/pets", tok, 200)
		want(t, "without a token", r.Get("/pets/1.0.0/pets", ""), 401, "900902")
	}
	p.Stop()
}

// An Envoy of the operator's own: refused while authz is away, never let
// through, and served again when it is back.
func TestAuthzAway(t *testing.T) {
	r := rig.New(t)
	file := r.File("envoy.json", r.Tollgate("envoy", "bootstrap", "--gateway", r.Gateway))
	r.StartEnvoy(file, "--concurrency", "1")

	p := r.Serve()
	rig.Eventually(t, "ready", func() error { return ready(r) })
	apply(t, r, sampleAPI(r, "shop"))
	back := backend(t, r.Production)
	answers(t, r, "/shop/1.0.0/open", "", 200)
	for round := range 3 {
		if round%2 == 0 {
			p.Kill()
		} else {
			p.Stop()
		}
		served := back.count()
		for range 20 {
			want(t, "authz away, open resource", r.Get("/shop/1.0.0/open", ""), 503, "900900")
			want(t, "authz away, closed resource", r.Get("/shop/1.0.0/closed", ""), 503, "900900")
		}
		if n := back.count() - served; n != 0 {
			t.Errorf("%d calls reached the back end while authz was away", n)
		}
		p = r.Serve()
		rig.Eventually(t, "ready", func() error { return ready(r) })
		answers(t, r, "/shop/1.0.0/open", "", 200)
		want(t, "back, closed resource", r.Get("/shop/1.0.0/closed", ""), 401, "900902")
	}
	p.Stop()
}

func ready(r *rig.Rig) error {
	a, err := rig.Do("GET", "http://"+r.Ops+"/readyz")
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%s", a.Body)
	}
	return err
}

// Ctrl-C stops everything and leaves neither a process nor a socket nor a port.
func TestCtrlC(t *testing.T) {
	r, p := dev(t)
	children := rig.Children(t, p.Pid())
	if len(children) == 0 {
		t.Fatal("no Envoy")
	}
	p.Stop()
	for _, pid := range children {
		if rig.Alive(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
	for _, address := range []string{r.Gateway, r.KeyManager, r.Ops, r.Production, r.Sandbox} {
		if _, err := rig.Do("GET", "http://"+address); err == nil {
			t.Errorf("%s still answers", address)
		}
	}
	entries, err := os.ReadDir(r.State)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("left over: %s %v", e.Name(), e.Type())
		}
		if strings.Contains(e.Name(), "bootstrap") || strings.HasSuffix(e.Name(), ".sock") {
			t.Errorf("left over: %s", filepath.Join(r.State, e.Name()))
		}
	}
}

// Ctrl-C while it starts is as good as later.
func TestCtrlCWhileStarting(t *testing.T) {
	r := rig.New(t)
	for range 5 {
		p := r.Dev()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // any moment will do
		children := rig.Children(t, p.Pid())
		p.Signal(syscall.SIGTERM)
		_ = p.Wait()
		for _, pid := range children {
			if rig.Alive(pid) {
				t.Errorf("process %d lives", pid)
			}
		}
	}
	p := r.Dev()
	p.WaitOutput(readyLine)
	p.Stop()
}
