// Package process finds, starts, supervises and stops Envoy.
//
// A started Envoy has a process group of its own, dies with this process, and
// leaves nothing behind: neither a process nor a file.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options describe an Envoy to be started.
type Options struct {
	Binary    string // see Find
	Bootstrap []byte // JSON (envoy.config.bootstrap.v3.Bootstrap)
	// Dir takes the files that Envoy is started with; they are removed when it
	// has ended. It must exist. Empty = a temporary folder.
	Dir         string
	Concurrency int           // workers; 0 = 1
	StopTimeout time.Duration // between SIGTERM and SIGKILL; 0 = 3 s
	LogLevel    string        // of Envoy; "" = warning
	Components  string        // levels of components ("ext_authz:debug,upstream:info")
	// DrainTime is how long Envoy's graceful drain takes, after which it closes
	// its ports (--drain-time-s, whole seconds); 0 = Envoy's own, 600 s.
	DrainTime time.Duration
	// AccessLogFlush is how long Envoy may keep lines of a file access log, also
	// of one to standard output; 0 = 1 s (Envoy's own default is 10 s).
	AccessLogFlush time.Duration
	// Log takes Envoy's own log (standard error) and Output its standard output
	// (an access log to /dev/stdout); nil = dropped. They are written to at the
	// same time.
	Log, Output io.Writer
}

// Process is a running Envoy.
type Process struct {
	cmd     *exec.Cmd
	dir     string
	files   []string // to be removed at the end
	ownDir  bool     // and the folder with them
	timeout time.Duration
	log     *tail
	done    chan struct{} // closed when Envoy has ended and is cleaned up
	err     error         // how it ended; read after done
	once    sync.Once     // of Stop
	stopped chan struct{} // closed by the first Stop
}

const (
	bootstrapFile = "envoy-bootstrap.json"
	adminFile     = "envoy-admin-address"
)

// Start starts Envoy and returns at once; Ready waits for it. If Start fails
// nothing is left behind.
func Start(opts Options) (*Process, error) {
	p := &Process{
		dir: opts.Dir, timeout: opts.StopTimeout, log: &tail{next: opts.Log},
		done: make(chan struct{}), stopped: make(chan struct{}),
	}
	if p.timeout == 0 {
		p.timeout = 3 * time.Second
	}
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "tollgate-envoy-")
		if err != nil {
			return nil, err
		}
		p.dir, p.ownDir = dir, true
	}
	p.files = []string{filepath.Join(p.dir, bootstrapFile), filepath.Join(p.dir, adminFile)}
	// A file of an Envoy before this one would be taken for this one's answer.
	p.clean(false)
	if err := os.WriteFile(p.files[0], opts.Bootstrap, 0o600); err != nil {
		p.clean(true)
		return nil, err
	}
	// Stop ends it, and nothing else of ours: no context.
	p.cmd = &exec.Cmd{
		Path: opts.Binary,
		Args: append([]string{opts.Binary}, arguments(opts, p.files[0], p.files[1])...),
	}
	p.cmd.SysProcAttr = sysProcAttr()
	p.cmd.Stderr = p.log
	p.cmd.Stdout = unfailing(opts.Output)
	p.cmd.WaitDelay = time.Second // a child of Envoy that keeps our pipes open does not keep us
	if err := p.run(); err != nil {
		p.clean(true)
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	return p, nil
}

// arguments returns Envoy's command line. Without hot restart no shared memory
// and no socket of the base id is left behind.
func arguments(opts Options, bootstrap, admin string) []string {
	workers, level, flush := opts.Concurrency, opts.LogLevel, opts.AccessLogFlush
	if workers == 0 {
		workers = 1
	}
	if level == "" {
		level = "warning"
	}
	if flush == 0 {
		flush = time.Second
	}
	args := []string{
		"-c", bootstrap, "--admin-address-path", admin,
		"--use-dynamic-base-id", "--disable-hot-restart",
		"--concurrency", strconv.Itoa(workers), "-l", level,
		"--file-flush-interval-msec", strconv.FormatInt(flush.Milliseconds(), 10),
	}
	if opts.DrainTime > 0 {
		args = append(args, "--drain-time-s", strconv.FormatInt(int64(opts.DrainTime/time.Second), 10))
	}
	if opts.Components != "" {
		args = append(args, "--component-log-level", opts.Components)
	}
	return args
}

// run starts the command on a thread that lives as long as Envoy: the signal of
// the parent's death follows the thread that started the child, not the
// process.
func (p *Process) run() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		if errors.Is(p.err, exec.ErrWaitDelay) {
			p.err = nil
		}
		p.signal(syscall.SIGKILL) // what is left of the group, if Envoy was a script
		p.clean(true)
		close(p.done)
	}()
	return <-started
}

// signal sends sig to Envoy's process group; that it has ended is no error.
func (p *Process) signal(sig syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
}

// clean removes the files of this Envoy (its admin socket too, which Envoy
// leaves) and, if the folder is ours and all is true, the folder.
func (p *Process) clean(all bool) {
	if b, err := os.ReadFile(p.files[1]); err == nil {
		socket := strings.TrimSpace(string(b))
		//nolint:gosec // the path comes from the bootstrap, by way of Envoy; and only a socket is removed
		if st, err := os.Stat(socket); err == nil && st.Mode().Type() == os.ModeSocket {
			_ = os.Remove(socket) //nolint:gosec // as above
		}
	}
	for _, f := range p.files {
		_ = os.Remove(f)
	}
	if all && p.ownDir {
		_ = os.RemoveAll(p.dir)
	}
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when Envoy has ended, of itself or by Stop, and is cleaned up.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends Envoy: SIGTERM to its group, and SIGKILL if it has not ended in
// time. It returns when Envoy has ended; calling it again, or for an Envoy that
// has ended, is harmless. Requests in flight are cut.
func (p *Process) Stop() {
	p.once.Do(func() {
		close(p.stopped)
		select {
		case <-p.done:
			return
		default:
		}
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(p.timeout):
			p.signal(syscall.SIGKILL)
		}
	})
	<-p.done
}

// Err says how Envoy ended, with the last lines of its log. It is nil while
// Envoy runs, and after Stop.
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	select {
	case <-p.stopped:
		return nil
	default:
	}
	if p.err == nil {
		return fmt.Errorf("envoy ended by itself%s", p.lastLines())
	}
	return fmt.Errorf("envoy ended: %w%s", p.err, p.lastLines())
}

func (p *Process) lastLines() string {
	if s := p.log.String(); s != "" {
		return "; its last lines:\n" + s
	}
	return "; it wrote nothing to its log"
}

// Validate lets Envoy check a bootstrap, with every extension in it, without
// opening a port. The error holds what Envoy says.
func Validate(ctx context.Context, binary string, bootstrap []byte) error {
	dir, err := os.MkdirTemp("", "tollgate-envoy-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, bootstrapFile)
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return err
	}
	said := &tail{}
	cmd := exec.CommandContext(ctx, binary, "--mode", "validate", "-c", file, "-l", "warning")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("envoy refuses the configuration (%w):\n%s", err, said)
	}
	return nil
}
