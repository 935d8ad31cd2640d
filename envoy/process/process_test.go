package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

// start starts the fake Envoy in a mode of fake_test.go.
func start(t *testing.T, mode string, change func(*Options)) *Process {
	t.Helper()
	t.Setenv(fakeEnvoy, mode)
	opts := Options{Binary: os.Args[0], Dir: t.TempDir()}
	if change != nil {
		change(&opts)
	}
	p, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in %s: %v, %v", dir, left, err)
	}
}

// gone waits until no process has the id.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}

// zombie reports whether the process has ended but its parent, here the init of
// a container, has not yet asked how.
func zombie(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && strings.Contains(string(b), ") Z ")
}

func TestStartReadyStop(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "live", func(o *Options) { o.Dir = dir })
	if err := p.Ready(within(t), "tcp-8080"); err != nil {
		t.Fatal(err)
	}
	admin, err := p.Admin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	lis, err := admin.Listeners(within(t))
	if err != nil || lis["tcp-8080"] != "127.0.0.1:31337" {
		t.Errorf("listeners %v, %v", lis, err)
	}
	p.Stop()
	p.Stop()
	if p.Err() != nil {
		t.Errorf("a stopped Envoy reports %v", p.Err())
	}
	gone(t, p.Pid())
	empty(t, dir)
}

func TestStartFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	if _, err := Start(Options{Binary: filepath.Join(dir, "nope"), Dir: dir}); err == nil {
		t.Error("started a binary that does not exist")
	}
	empty(t, dir)
	if _, err := Start(Options{Binary: os.Args[0], Dir: filepath.Join(dir, "nope")}); err == nil {
		t.Error("started in a folder that does not exist")
	}
}

func TestTemporaryFolderIsRemoved(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	p := start(t, "live", func(o *Options) { o.Dir = "" })
	if err := p.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	empty(t, tmp)
}

func TestWhyItDoesNotBecomeReady(t *testing.T) {
	t.Run("it ends", func(t *testing.T) {
		var log bytes.Buffer
		p := start(t, "broken", func(o *Options) { o.Log = &log })
		err := p.Ready(within(t))
		for _, part := range []string{"exit status 1", "no such field: nope", "line 99"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("error %v, want %q in it", err, part)
			}
		}
		if strings.Contains(err.Error(), "line 10\n") || !strings.Contains(log.String(), "line 10\n") {
			t.Error("the error holds the whole log, or the log not all of it")
		}
	})
	t.Run("it waits for xds", func(t *testing.T) {
		p := start(t, "waiting", nil)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err := p.Ready(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "PRE_INITIALIZING") ||
			!strings.Contains(err.Error(), "no connection to xds") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a listener is missing", func(t *testing.T) {
		p := start(t, "live", nil)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := p.Ready(ctx, "tcp-8080", "tcp-8443"); err == nil || !strings.Contains(err.Error(), "tcp-8443") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("it was stopped", func(t *testing.T) {
		p := start(t, "waiting", nil)
		p.Stop()
		if err := p.Ready(within(t)); err == nil {
			t.Error("a stopped Envoy is ready")
		}
	})
}

func TestStopKillsTheGroup(t *testing.T) {
	out := &lines{c: make(chan string, 1)}
	p := start(t, "stubborn", func(o *Options) { o.StopTimeout, o.Output = 50*time.Millisecond, out })
	child, err := strconv.Atoi(out.next(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(within(t)); err != nil { // so that it ignores SIGTERM by now
		t.Fatal(err)
	}
	p.Stop()
	gone(t, p.Pid())
	gone(t, child)
}

// lines hands the first line written over.
type lines struct {
	mu   sync.Mutex
	c    chan string
	rest string
	done bool
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest += string(p)
	if first, _, ok := strings.Cut(l.rest, "\n"); ok && !l.done {
		l.done = true
		l.c <- first
	}
	return len(p), nil
}

func (l *lines) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-l.c:
		return s
	case <-time.After(patience):
		t.Fatal("nothing was written")
		return ""
	}
}

var _ io.Writer = (*lines)(nil)
