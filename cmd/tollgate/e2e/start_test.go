//go:build !short

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

// A port that is taken is an error that names the port, the flag to change it
// and who holds it.
func TestPortTaken(t *testing.T) {
	r := rig.New(t)
	for flag, address := range map[string]string{
		"--gateway": r.Gateway, "--keymanager": r.KeyManager, "--ops": r.Ops,
		"--sample-production": r.Production, "--sample-sandbox": r.Sandbox,
	} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		p := r.Dev()
		if err := p.Wait(); err == nil {
			t.Errorf("%s: started on a taken port", flag)
		}
		_, port, _ := net.SplitHostPort(address)
		for _, part := range []string{"port " + port + " is taken", flag, fmt.Sprintf("by process %d (", os.Getpid())} {
			if !strings.Contains(p.Stderr(), part) {
				t.Errorf("%s: %q is not in %q", flag, part, p.Stderr())
			}
		}
		_ = l.Close()
	}
	r.Dev().WaitOutput(readyLine) // what failed has left nothing in the way
}

// Two processes on one state folder, and keys that others can read.
func TestStateFolderIsGuarded(t *testing.T) {
	r, p := dev(t)
	second := r.Serve()
	if err := second.Wait(); err == nil || !strings.Contains(second.Stderr(), fmt.Sprintf("in use by process %d (tollgate dev)", p.Pid())) {
		t.Errorf("a second process: %v %s", err, second.Stderr())
	}
	p.Stop()

	for _, tc := range []struct {
		name, want string
		spoil      func() error
		mend       func() error
	}{
		{"pepper that others can read", "chmod 600",
			func() error { return os.Chmod(filepath.Join(r.State, "pepper.key"), 0o644) },
			func() error { return os.Chmod(filepath.Join(r.State, "pepper.key"), 0o600) }},
		{"pepper that is lost", filepath.Join(r.State, "pepper.key"),
			func() error { return os.Rename(filepath.Join(r.State, "pepper.key"), filepath.Join(r.State, "away")) },
			func() error { return os.Rename(filepath.Join(r.State, "away"), filepath.Join(r.State, "pepper.key")) }},
		{"folder that others can read", "chmod 700",
			func() error { return os.Chmod(r.State, 0o755) },
			func() error { return os.Chmod(r.State, 0o700) }},
	} {
		if err := tc.spoil(); err != nil {
			t.Fatal(err)
		}
		p := r.Serve()
		if err := p.Wait(); err == nil || !strings.Contains(p.Stderr(), tc.want) {
			t.Errorf("%s: %v %s", tc.name, err, p.Stderr())
		}
		if err := tc.mend(); err != nil {
			t.Fatal(err)
		}
	}

	// A lost admin.json is replaced by a new credential.
	if err := os.Remove(filepath.Join(r.State, "admin.json")); err != nil {
		t.Fatal(err)
	}
	r.Dev().WaitOutput(readyLine)
	r.Tollgate("get", "apis")
}

// A state folder so deep that no socket fits into its path.
func TestDeepStateFolder(t *testing.T) {
	r := rig.New(t)
	r.State = filepath.Join(r.State, strings.Repeat("deeper/", 15), "state")
	p := r.Dev()
	p.WaitOutput(readyLine)
	want(t, "a call", r.Get("/pets/1.0.0/pets", token(t, r, "demo.json")), 200, "")
	p.Stop()
}

// counted is a back end that counts its calls.
type counted struct{ n atomic.Int64 }

func (c *counted) count() int64 { return c.n.Load() }

// backend serves at address.
func backend(t *testing.T, address string) *counted {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c.n.Add(1)
		w.WriteHeader(http.StatusOK)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return c
}
