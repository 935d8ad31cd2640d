package storetest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a Postgres server of one test, which may be killed and stopped.
type Server struct {
	t        testing.TB
	postgres string
	dir      string // holds the socket, and below it the data
	cred     *syscall.Credential
	settings []string
	cmd      *exec.Cmd
}

// janitor waits until standard input ends, as it does when this process ends in
// whatever way, and then stops the server and removes $1.
const janitor = `
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" && kill -CONT "$pid"
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1"
`

// StartServer starts a server with the settings ("name=value") that is the
// test's alone and ends with it.
func StartServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "tollgate-pg-") // a short path: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	return StartServerIn(t, dir, settings...)
}

// StartServerIn is StartServer with its files in dir, which goes with it.
func StartServerIn(t testing.TB, dir string, settings ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: dir, settings: settings}
	s.watch()
	initdb, postgres, err := findServer()
	if err != nil {
		t.Fatal(err)
	}
	s.postgres = postgres
	if os.Getuid() == 0 {
		if s.cred, err = serverUser(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := s.command(initdb, "-D", s.data(), "-U", "tollgate", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1", "--data-checksums")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Start()
	return s
}

// watch has the directory removed however this process ends.
func (s *Server) watch() {
	cmd := exec.Command("/bin/sh", "-c", janitor, "sh", s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		s.Kill()
		_ = lifeline.Close()
		_ = cmd.Wait() // what it could not remove is in /tmp
	})
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.cred}
	return cmd
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Start starts the server, after Kill or Shutdown, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=100", "-c", "shared_buffers=16MB"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the server has its own
	s.cmd = s.command(s.postgres, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := awaitServer(s.DSN(), log.Name()); err != nil {
		s.t.Fatal(err)
	}
}

// DSN is the address of the server's first database.
func (s *Server) DSN() string { return s.dsn(s.dir) }

func (s *Server) dsn(dir string) string {
	return "postgres://tollgate@/postgres?search_path=public&host=" + url.QueryEscape(dir)
}

// Dir is the directory of the server's data.
func (s *Server) Dir() string { return s.data() }

// Bin is the path of a program that belongs to the server.
func (s *Server) Bin(name string) string {
	path := filepath.Join(filepath.Dir(s.postgres), name)
	if packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); !executable(path) && len(packaged) > 0 {
		path = packaged[len(packaged)-1]
	}
	return path
}

// Backup copies the data of the running server (pg_basebackup), for Restore.
func (s *Server) Backup() {
	s.t.Helper()
	s.Run("pg_basebackup", "-h", s.dir, "-U", "tollgate", "-D", filepath.Join(s.dir, "backup"), "-X", "stream", "-c", "fast")
}

// Restore starts the server from the copy that Backup has made.
func (s *Server) Restore() {
	s.t.Helper()
	s.Shutdown()
	if err := os.Rename(s.data(), filepath.Join(s.dir, "lost")); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.dir, "backup"), s.data()); err != nil {
		s.t.Fatal(err)
	}
	s.Start()
}

// Run runs a program that belongs to the server, as its user.
func (s *Server) Run(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(s.Bin(name), args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Exec runs SQL on a connection of its own.
func (s *Server) Exec(sql string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // it may have been told to close itself
	if _, err := conn.Exec(ctx, sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// Processes are the ids of the postmaster, first, and of its children.
func (s *Server) Processes() []int {
	if s.cmd == nil {
		return nil
	}
	all := []int{s.cmd.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if _, parent := process(pid); parent == strconv.Itoa(all[0]) {
			all = append(all, pid)
		}
	}
	return all
}

// Signal sends a signal to the postmaster and all its children.
func (s *Server) Signal(sig syscall.Signal) {
	for _, pid := range s.Processes() {
		_ = syscall.Kill(pid, sig) // it may have ended meanwhile
	}
}

// Kill ends all processes of the server at once (SIGKILL).
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGSTOP) // no new child escapes
	for state := "?"; state != "T" && state != "Z" && state != ""; {
		state, _ = process(s.cmd.Process.Pid)
	}
	all := s.Processes()
	s.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // it was killed
	for _, pid := range all {
		for state := "?"; state != "" && state != "Z"; time.Sleep(time.Millisecond) {
			state, _ = process(pid)
		}
	}
	s.cmd = nil
}

// process returns the state of a process, "" if there is none, and its parent.
func process(pid int) (state, parent string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", ""
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return "", ""
	}
	return fields[0], fields[1]
}

// Shutdown ends the server in good order, cutting those who are connected.
func (s *Server) Shutdown() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Fatal(fmt.Errorf("shutdown of the server: %w", err))
	}
	s.cmd = nil
}

// Stop stops all processes of the server until Continue.
func (s *Server) Stop() { s.Signal(syscall.SIGSTOP) }

// Continue lets them go on.
func (s *Server) Continue() { s.Signal(syscall.SIGCONT) }
