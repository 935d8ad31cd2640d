package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a running tollgate, or another program.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout string // file
	stderr string
	done   chan struct{}
	err    error // how it ended; after done
}

// authzTimeout lets Envoy wait for an authz that is well, but does not get to
// run: on a busy machine that may take longer than half a second.
const authzTimeout = "TOLLGATE_XDS_AUTHZ_TIMEOUT=5s"

// Start starts tollgate with args. The test ends it if it has not ended.
func (r *Rig) Start(args ...string) *Process {
	r.t.Helper()
	return r.run(args[0], Binary(r.t), args...)
}

// StartEnvoy starts an Envoy with a configuration of the test's own.
func (r *Rig) StartEnvoy(config string, more ...string) *Process {
	r.t.Helper()
	args := append([]string{"-c", config, "--use-dynamic-base-id", "--disable-hot-restart", "-l", "error"}, more...)
	return r.run("envoy", r.Envoy, args...)
}

// run starts a program; its logs bear name.
func (r *Rig) run(name, program string, args ...string) *Process {
	r.t.Helper()
	return r.runWith(nil, name, program, args...)
}

// runWith is run with more environment variables.
func (r *Rig) runWith(environ []string, name, program string, args ...string) *Process {
	r.t.Helper()
	r.n++
	name = filepath.Join(r.Logs, fmt.Sprintf("%02d-%s", r.n, name))
	p := &Process{t: r.t, stdout: name + ".stdout", stderr: name + ".stderr", done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), program, args...) // Cleanup ends it, gently
	// A process group of its own, so that a signal to it is not one to the test.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Env = slices.Concat(os.Environ(), []string{authzTimeout}, environ)
	out, err := os.Create(p.stdout)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	errs, err := os.Create(p.stderr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = errs.Close() }()
	p.cmd.Stdout, p.cmd.Stderr = out, errs
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	r.t.Cleanup(func() {
		if !p.Ended() {
			p.Signal(syscall.SIGTERM)
			p.Signal(syscall.SIGCONT) // it may have been stopped
			select {
			case <-p.done:
			case <-time.After(Patience):
				p.Kill()
			}
		}
	})
	return p
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the process as a crash does, and waits for it.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop ends the process as Ctrl-C does and waits for it. It must end well.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGINT)
	if err := p.Wait(); err != nil {
		p.t.Errorf("after Ctrl-C: %v\n%s", err, p.Stderr())
	}
}

// Wait waits for the end of the process.
func (p *Process) Wait() error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(Patience):
		p.t.Fatalf("tollgate has not ended after %v", Patience)
		return nil
	}
}

// Stdout returns what the process has printed so far.
func (p *Process) Stdout() string { return read(p.stdout) }

// Stderr returns what the process has logged so far.
func (p *Process) Stderr() string { return read(p.stderr) }

func read(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// WaitOutput waits until the process has printed text, and returns all it has
// printed.
func (p *Process) WaitOutput(text string) string {
	p.t.Helper()
	Eventually(p.t, "tollgate prints "+text, func() error {
		if p.Ended() && !strings.Contains(p.Stdout(), text) {
			p.t.Fatalf("tollgate ended: %v\n%s", p.err, p.Stderr())
		}
		if !strings.Contains(p.Stdout(), text) {
			return fmt.Errorf("it has printed %q", p.Stdout())
		}
		return nil
	})
	return p.Stdout()
}

// Eventually calls try until it returns nil; the test fails with its last
// error if that takes longer than Patience.
func Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not after %v: %v", what, Patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Children returns the ids of the living processes whose parent is pid.
func Children(t testing.TB, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, file := range stats {
		// proc(5): pid (comm) state ppid …; comm may hold anything but ends at
		// the last parenthesis.
		text := read(file)
		_, rest, ok := strings.Cut(text, ") ")
		for strings.Contains(rest, ") ") {
			_, rest, _ = strings.Cut(rest, ") ")
		}
		var state string
		var child, parent int
		if _, err := fmt.Sscanf(rest, "%s %d", &state, &parent); !ok || err != nil || parent != pid || state == "Z" {
			continue
		}
		if _, err := fmt.Sscanf(text, "%d", &child); err == nil {
			out = append(out, child)
		}
	}
	return out
}

// Alive reports whether a process lives (a zombie does not).
func Alive(pid int) bool {
	text := read(fmt.Sprintf("/proc/%d/stat", pid))
	i := strings.LastIndex(text, ") ")
	return i > 0 && !strings.HasPrefix(text[i+2:], "Z")
}
