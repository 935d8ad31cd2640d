// Package rig runs the tollgate binary for tests: it builds it once, gives it
// ports and a state folder of its own, keeps what it writes, and stops it,
// gently or not. Only tests import it.
package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long the rig waits for something that takes far less.
const Patience = 60 * time.Second

var build struct {
	once sync.Once
	path string
	err  error
}

// Binary returns the path of the tollgate binary, built once for this run of
// the tests. Cleanup removes it.
func Binary(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "tollgate-e2e-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "tollgate")
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", build.path, "tollgate/cmd/tollgate").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// Cleanup removes the binaries. TestMain calls it after the tests.
func Cleanup() {
	if build.path != "" {
		_ = os.RemoveAll(filepath.Dir(build.path))
	}
	if release.dir != "" {
		_ = os.RemoveAll(release.dir)
	}
}

// Rig is one Tollgate set-up of its own: a state folder, addresses and logs.
type Rig struct {
	State      string // state folder
	Logs       string // where the processes' logs are
	Gateway    string // host:port
	KeyManager string
	Ops        string
	Production string // sample back end
	Sandbox    string
	Envoy      string // path of the binary

	t       testing.TB
	n       int // processes started
	secrets secrets
}

// New returns a set-up on free ports. What the processes wrote is shown if the
// test fails.
func New(t testing.TB) *Rig {
	t.Helper()
	// Sockets have short paths: not below t.TempDir.
	root, err := os.MkdirTemp("/tmp", "tollgate-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	ports := FreePorts(t, 5)
	r := &Rig{
		State: filepath.Join(root, "state"), Logs: filepath.Join(root, "logs"),
		Gateway: ports[0], KeyManager: ports[1], Ops: ports[2], Production: ports[3], Sandbox: ports[4],
		Envoy: envoyBinary(t), t: t,
	}
	if err := os.Mkdir(r.Logs, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			r.showLogs()
		}
		_ = os.RemoveAll(root)
	})
	return r
}

// envoyBinary returns the Envoy of the tests: $ENVOY_BIN, PATH, or the one that
// "make envoy" installed.
func envoyBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ENVOY_BIN"); path != "" {
		return path
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".tools", "envoy", "envoy", "_bin", "envoy")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no envoy: run make envoy, or set ENVOY_BIN")
	return ""
}

// ports is what FreePorts has to give: blocks below the ports that the system
// gives to outgoing connections (ip_local_port_range), so that a server finds
// its port free when it starts again. A process that uses a block keeps its
// first port, as long as it lives, so that no two use the same.
var ports struct {
	sync.Mutex
	block, next int // 0 = none yet
	claims      []net.Listener
}

const (
	firstPort, lastPort = 15_000, 32_000
	blockPorts          = 100
)

// FreePorts returns n loopback addresses that nobody listens on right now. None
// is returned twice, and none to another process.
func FreePorts(t testing.TB, n int) []string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	var out []string
	for len(out) < n {
		if ports.next++; ports.block == 0 || ports.next >= ports.block+blockPorts {
			claimPorts(t)
		}
		address := fmt.Sprintf("127.0.0.1:%d", ports.next)
		if l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address); err == nil {
			_ = l.Close()
			out = append(out, address)
		}
	}
	return out
}

// claimPorts takes the next block that no process has.
func claimPorts(t testing.TB) {
	t.Helper()
	for block := max(firstPort, ports.block+blockPorts); block < lastPort; block += blockPorts {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", block))
		if err == nil {
			ports.claims = append(ports.claims, l)
			ports.block, ports.next = block, block+1
			return
		}
	}
	t.Fatal("no free ports")
}

// flags returns the flags that put a server on this rig's addresses.
func (r *Rig) flags() []string {
	return []string{
		"--state", r.State, "--gateway", r.Gateway, "--keymanager", r.KeyManager, "--ops", r.Ops,
	}
}

// Dev starts "tollgate dev" and returns at once.
func (r *Rig) Dev(more ...string) *Process {
	r.t.Helper()
	args := append([]string{"dev"}, r.flags()...)
	args = append(args, "--sample-production", r.Production, "--sample-sandbox", r.Sandbox, "--envoy", r.Envoy)
	return r.Start(append(args, more...)...)
}

// Serve starts "tollgate serve" and returns at once.
func (r *Rig) Serve(more ...string) *Process {
	r.t.Helper()
	return r.Start(append(append([]string{"serve"}, r.flags()...), more...)...)
}

// Tollgate runs a client command to its end and returns what it wrote to
// standard output. A failure is the test's.
func (r *Rig) Tollgate(args ...string) string {
	r.t.Helper()
	return r.tollgate(Binary(r.t), args...)
}

// tollgate is Tollgate with another program.
func (r *Rig) tollgate(program string, args ...string) string {
	r.t.Helper()
	out, stderr, err := r.Run(program, append(args, "--state", r.State)...)
	if err != nil {
		r.t.Fatalf("tollgate %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr)
	}
	return out
}

// Try runs a client command to its end and returns what it wrote.
func (r *Rig) Try(args ...string) (stdout, stderr string, err error) {
	r.t.Helper()
	return r.Run(Binary(r.t), append(args, "--state", r.State)...)
}

// Run runs a program to its end and returns what it wrote.
func (r *Rig) Run(program string, args ...string) (stdout, stderr string, err error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(r.t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// File writes a file beside the state folder and returns its path.
func (r *Rig) File(name, content string) string {
	r.t.Helper()
	path := filepath.Join(filepath.Dir(r.State), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// AllLogs returns what every process of this rig has logged so far: their
// standard error, and the log files in the state folder. Standard output, on
// which dev prints its demo credentials, is not among it.
func (r *Rig) AllLogs() string {
	var b strings.Builder
	for _, pattern := range []string{filepath.Join(r.Logs, "*.stderr"), filepath.Join(r.State, "*.log")} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			data, _ := os.ReadFile(f)
			b.Write(data)
		}
	}
	return b.String()
}

func (r *Rig) showLogs() {
	var files []string
	for _, pattern := range []string{filepath.Join(r.Logs, "*"), filepath.Join(r.State, "*.log")} {
		found, _ := filepath.Glob(pattern)
		files = append(files, found...)
	}
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if len(data) > 4<<10 {
			data = append([]byte("…\n"), data[len(data)-4<<10:]...)
		}
		r.t.Logf("== %s\n%s", filepath.Base(f), data)
	}
}
