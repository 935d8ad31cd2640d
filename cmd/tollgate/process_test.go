package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager/admin"
)

// asTollgate makes this test binary the program itself.
const asTollgate = "RUN_AS_TOLLGATE"

// serverProcess is the program in a process of its own.
type serverProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	ops   string // host:port
	ended chan struct{}
	err   error // when ended is closed

	mu  sync.Mutex
	log bytes.Buffer
}

// Write implements io.Writer for what the process logs.
func (p *serverProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *serverProcess) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// serve starts "tollgate serve" with these arguments and an ops address.
func serve(t *testing.T, ops string, args ...string) *serverProcess {
	t.Helper()
	p := &serverProcess{t: t, ops: ops, ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{"serve", "--ops", ops}, args...)...)
	p.cmd.Env = append(os.Environ(), asTollgate+"=1")
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("serve %s:\n%s", strings.Join(args, " "), p.said())
		}
	})
	return p
}

// readyz returns what the process says of its readiness; 0 while it does not
// answer.
func (p *serverProcess) readyz() (int, string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: maxTestWait}
	res, err := client.Get("http://" + p.ops + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

// until waits until the process answers with a status, and a text that holds
// want.
func (p *serverProcess) until(status int, want string) {
	p.t.Helper()
	var got int
	var text string
	for end := time.Now().Add(maxTestWait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, text = p.readyz(); got == status && strings.Contains(text, want) {
			return
		}
		select {
		case <-p.ended:
			p.t.Fatalf("ended with %v\n%s", p.err, p.said())
		default:
		}
	}
	p.t.Fatalf("/readyz: %d %s, want %d with %q", got, text, status, want)
}

// stop ends the process in good order.
func (p *serverProcess) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

// wait waits until the process has ended, with status 0.
func (p *serverProcess) wait() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(maxTestWait):
		p.t.Fatalf("does not end\n%s", p.said())
	}
	if p.err != nil {
		p.t.Errorf("ended with %v\n%s", p.err, p.said())
	}
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	return rig.FreePorts(t, 1)[0]
}

// stateDir is a state folder with a short name.
func stateDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(envoytest.Dir(t), "state")
}

// Three processes with one state folder find each other in whatever order they
// start, and until then each says what it waits for.
func TestProcessesStartInEveryOrder(t *testing.T) {
	lacks := map[string]string{
		"authz": "authz: tag key: ", // the key manager makes it
		"xds":   "xds: the catalog is not loaded; no key manager at ",
	}
	for _, order := range [][]string{
		{"authz", "keymanager", "xds"}, {"authz", "xds", "keymanager"}, {"keymanager", "authz", "xds"},
		{"keymanager", "xds", "authz"}, {"xds", "authz", "keymanager"}, {"xds", "keymanager", "authz"},
	} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			dir, started := stateDir(t), map[string]*serverProcess{}
			for _, role := range order {
				p := serve(t, freeAddress(t), role, "--state", dir, "--keymanager", freeAddress(t))
				if started["keymanager"] != nil || role == "keymanager" {
					p.until(http.StatusOK, "ready")
				} else {
					p.until(http.StatusServiceUnavailable, lacks[role])
				}
				started[role] = p
			}
			for _, p := range started {
				p.until(http.StatusOK, "ready")
			}
			for _, role := range order {
				started[role].stop()
			}
		})
	}
}

// A process that is told to stop before it was ever ready ends in good order.
func TestProcessStopsBeforeItIsReady(t *testing.T) {
	dir := stateDir(t)
	for _, role := range []string{"authz", "xds"} {
		p := serve(t, freeAddress(t), role, "--state", dir)
		p.until(http.StatusServiceUnavailable, role)
		p.stop()
	}
}

// A process says in one line why it does not start.
func TestProcessRefusesToStart(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		env  string
		want string
	}{
		"no such role":  {args: []string{"gateway"}, want: `"gateway" is not a role`},
		"twice":         {args: []string{"xds", "xds"}, want: "the role xds is there twice"},
		"no tag file":   {args: []string{"authz"}, env: "TOLLGATE_KEYS_TAG_FILE=/nowhere/tag.key", want: "tag key: stat /nowhere/tag.key"},
		"plaintext rpc": {args: []string{"keymanager"}, env: "TOLLGATE_RPC_ADDRESS=0.0.0.0:9092", want: "or set tls.cert_file"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.env != "" {
				key, value, _ := strings.Cut(tc.env, "=")
				t.Setenv(key, value)
			}
			p := serve(t, freeAddress(t), append(tc.args, "--state", stateDir(t))...)
			select {
			case <-p.ended:
			case <-time.After(maxTestWait):
				t.Fatal("it runs")
			}
			if said := p.said(); p.err == nil || !strings.Contains(said, tc.want) || strings.Count(said, "\n") != 1 {
				t.Errorf("%v: %q, want one line with %q", p.err, said, tc.want)
			}
		})
	}
}

// An authz hands its socket over to the next one, again and again, and no call
// is refused: not by the one that ends, nor by the one that begins.
func TestAuthzHandsOverUnderLoad(t *testing.T) {
	dir, ops := stateDir(t), freeAddress(t)
	serve(t, freeAddress(t), "keymanager", "xds", "--state", dir, "--keymanager", freeAddress(t)).until(http.StatusOK, "ready")
	now := serve(t, ops, "authz", "--state", dir)
	now.until(http.StatusOK, "ready")

	ctx, cancel := context.WithCancel(t.Context())
	var calls, failed atomic.Int64
	var load sync.WaitGroup
	stop := sync.OnceFunc(func() { cancel(); load.Wait() })
	defer stop()
	for range 4 {
		check := dialAuthz(t, "unix:"+filepath.Join(dir, fileAuthzSock))
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := check.Check(context.WithoutCancel(ctx), &authv3.CheckRequest{})
				if calls.Add(1); err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	const handOvers = 5
	for n := range handOvers {
		before := calls.Load()
		next := serve(t, ops, "authz", "--state", dir)
		now.wait() // it notices by itself
		now = next
		now.until(http.StatusOK, "ready") // the address too is the successor's
		for end := time.Now().Add(maxTestWait); calls.Load() < before+100 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if calls.Load() < before+100 {
			t.Fatalf("calls stand still after hand-over %d", n+1)
		}
	}
	stop()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d calls failed", n, calls.Load())
	}
	now.stop()
	if _, err := os.Lstat(filepath.Join(dir, fileAuthzSock)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left over: %v", err)
	}
}

// A key manager that is told to stop is not ready from then on, and answers
// until its clients have gone elsewhere.
func TestKeyManagerStopsUnderLoad(t *testing.T) {
	dir, address := stateDir(t), freeAddress(t)
	t.Setenv("TOLLGATE_OPS_DRAIN_WAIT", "1s")
	p := serve(t, freeAddress(t), "keymanager", "--state", dir, "--keymanager", address)
	p.until(http.StatusOK, "ready")

	client := &http.Client{Transport: &http.Transport{}, Timeout: maxTestWait}
	defer client.CloseIdleConnections()
	url := "http://" + address + admin.OpenAPIPath + ".json"
	stopping, answered := false, 0
	for {
		if status, text := p.readyz(); stopping && (status == 0 || strings.Contains(text, "stopping")) && answered > 3 {
			break // the balancer has seen it
		}
		res, err := client.Get(url)
		if err != nil {
			t.Fatalf("stopping %t: %v", stopping, err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		if _ = res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("stopping %t: %d, %v", stopping, res.StatusCode, err)
		}
		if stopping {
			answered++
		} else if stopping = true; p.cmd.Process.Signal(syscall.SIGTERM) != nil {
			t.Fatal("not running")
		}
	}
	p.wait()
}
