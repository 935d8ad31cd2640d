package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Server processes run on core 0 and the load generator on core 1, so that a
// server's rate is that of one core and its CPU per call is its own.
const (
	serverCore = "0"
	clientCore = "1"
)

// pinned wraps a command with taskset(1), where there is one and there are two
// cores. GOMAXPROCS=1 matches.
func pinned(core string, argv ...string) *exec.Cmd {
	if path, err := exec.LookPath("taskset"); err == nil {
		argv = append([]string{path, "-c", core}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	// it ends with us, whatever happens to us
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// server is a child process that listens on a Unix socket.
type server struct {
	cmd    *exec.Cmd
	socket string
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) addr() string { return "unix:" + s.socket }

// stop ends the process and waits for it.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-done
	}
}

// startSelf runs "bench serve KIND SOCKET ARG..." and waits until it listens.
func startSelf(ctx context.Context, kind, socket string, args ...string) (*server, error) {
	return startSelfOn(ctx, serverCore, kind, socket, args...)
}

func startSelfOn(ctx context.Context, core, kind, socket string, args ...string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{socket: socket, cmd: pinned(core, append([]string{self, "serve", kind, socket}, args...)...)}
	return s, s.start(ctx)
}

func (s *server) start(ctx context.Context) error {
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := net.Dial("unix", s.socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			s.stop()
			return fmt.Errorf("no server at %s: %w", s.socket, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// envoyBinary finds Envoy as the tests do: ENVOY_BIN, PATH, .tools.
func envoyBinary() (string, error) {
	if p := os.Getenv("ENVOY_BIN"); p != "" {
		return p, nil
	}
	if p, err := exec.LookPath("envoy"); err == nil {
		return p, nil
	}
	p := filepath.Join(".tools", "envoy", "envoy", "_bin", "envoy")
	if _, err := os.Stat(p); err != nil {
		return "", errors.New("no Envoy: run 'make envoy' (or make bench, which does)")
	}
	return filepath.Abs(p)
}

// startEnvoy runs one Envoy with one worker on core 0.
func startEnvoy(ctx context.Context, binary, dir string, n int, v envoyVariant) (*server, error) {
	socket := filepath.Join(dir, "envoy"+strconv.Itoa(n)+".sock")
	config, err := v.config(socket)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "envoy"+strconv.Itoa(n)+".json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	s := &server{socket: socket, cmd: pinned(serverCore, binary, "-c", file, "--concurrency", "1", "--use-dynamic-base-id",
		"--disable-hot-restart", "-l", "error",
		"--file-flush-interval-msec", strconv.FormatInt(logFlush.Milliseconds(), 10))}
	return s, s.start(ctx)
}
