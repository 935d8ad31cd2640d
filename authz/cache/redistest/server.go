// Package redistest starts real Redis servers for tests: single ones, with TLS,
// with ACL users and on a Unix socket; a master and a replica watched by
// Sentinels; and a cluster. They listen on 127.0.0.1 on free ports, each has a
// directory of its own, and they end with the test, or with its process if that
// dies first.
package redistest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Options of Start. Zero is a server without users, TLS or persistence.
type Options struct {
	TLS       bool     // TLS only; see Server.TLS
	ACL       []string // lines of an ACL file ("user jane on >secret ~a:* +get"); nobody else but Client gets in then
	MaxMemory string   // "4mb"; "" = no limit
	Config    []string // more lines of redis.conf
	// Dir is where the server works, which keeps what is saved; "" = a new one
	// that goes with the test.
	Dir string
}

// Server is a running redis-server.
type Server struct {
	Addr   string // HOST:PORT
	Socket string // of the same server, without TLS
	Dir    string

	t      testing.TB
	o      Options
	port   int
	config []string // lines before those of o
	args   []string
	tls    *tls.Config

	mu      sync.Mutex
	pid     int
	process *exec.Cmd
	life    *os.File // the end of a pipe: when it is closed, the server is killed

	client *redis.Client
}

// adminUser is who Client is where there are ACL users.
const adminUser, adminPassword = "redistest", "redistest"

// Start starts a server and waits until it answers.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	return start(t, o, nil)
}

// start retries while the port that was free is taken by somebody else.
func start(t testing.TB, o Options, config func(s *Server) []string) *Server {
	t.Helper()
	var err error
	for range 5 {
		s := &Server{t: t, o: o, Dir: o.Dir}
		if s.Dir == "" {
			s.Dir = tempDir(t)
		}
		s.Socket = filepath.Join(s.Dir, "redis.sock")
		s.port = freePort(t)
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		if config != nil {
			s.config = config(s)
		}
		if o.TLS {
			s.tls = writeCertificates(t, s.Dir)
		}
		s.connect()
		t.Cleanup(func() { s.Kill(); s.client.Close() })
		if err = s.run(); err == nil {
			return s
		}
		if !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	t.Fatal(err)
	return nil
}

// tempDir returns a directory with a short name: it holds a socket.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "tollgate-redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePort returns a port that nobody listens on right now. It is below those
// that the system gives to outgoing connections (ip_local_port_range): a server
// that starts again finds its port free.
func freePort(t testing.TB) int {
	t.Helper()
	const first, ports = 10_000, 5_000
	for range ports {
		port := first + (os.Getpid()*97+int(portsTried.Add(1)))%ports
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var portsTried atomic.Int64

// lines returns the configuration.
func (s *Server) lines() []string {
	lines := []string{"bind 127.0.0.1", "dir " + s.Dir, "daemonize no", "save \"\"", "appendonly no", "protected-mode no",
		"unixsocket " + s.Socket, "repl-diskless-sync-delay 0"}
	if s.o.TLS {
		lines = append(lines, "port 0", fmt.Sprint("tls-port ", s.port), "tls-auth-clients no",
			"tls-cert-file "+filepath.Join(s.Dir, "cert.pem"), "tls-key-file "+filepath.Join(s.Dir, "key.pem"), "tls-ca-cert-file "+filepath.Join(s.Dir, "ca.pem"))
	} else {
		lines = append(lines, fmt.Sprint("port ", s.port))
	}
	if len(s.o.ACL) > 0 {
		lines = append(lines, "user default off", "user "+adminUser+" on >"+adminPassword+" ~* &* +@all")
		lines = append(lines, s.o.ACL...)
	}
	if s.o.MaxMemory != "" {
		lines = append(lines, "maxmemory "+s.o.MaxMemory, "maxmemory-policy noeviction")
	}
	return append(append(lines, s.config...), s.o.Config...)
}

// serve runs "$@" until standard input ends, then kills it. It says its pid.
const serve = `log="$1"; shift; "$@" >"$log" 2>&1 </dev/null & echo $!; read -r _; kill -9 $! 2>/dev/null; wait`

func (s *Server) run() error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("this test needs Redis: install the package redis-server (or leave the test out with -tags short): %w", err)
	}
	file := filepath.Join(s.Dir, "redis.conf")
	if _, err := os.Stat(file); err != nil { // Sentinel and cluster nodes keep their own
		if err := os.WriteFile(file, []byte(strings.Join(s.lines(), "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	log := filepath.Join(s.Dir, "log")
	cmd := exec.Command("/bin/sh", append([]string{"-c", serve, "sh", log, path, file}, s.args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us alone
	input, life, err := os.Pipe()
	if err != nil {
		return err
	}
	defer input.Close()
	cmd.Stdin = input
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.pid, s.process, s.life = pid, cmd, life
	s.mu.Unlock()
	return s.await(pid, log)
}

// await polls until the server answers (this one, not another that was faster
// to take the port), or has ended.
func (s *Server) await(pid int, log string) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		info, err := s.client.Info(ctx, "server").Result()
		cancel()
		if err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r", pid)) {
			return nil
		}
		text, _ := os.ReadFile(log)
		if strings.Contains(string(text), "Failed listening") || strings.Contains(string(text), "FATAL CONFIG") || strings.Contains(string(text), "Exiting") || time.Now().After(deadline) {
			s.Kill()
			if err == nil {
				err = errors.New("another server answers")
			}
			return fmt.Errorf("redis-server does not start: %w\n%s", err, text)
		}
	}
}

func (s *Server) connect() {
	logging.Disable() // its attempts to connect are ours
	o := &redis.Options{Addr: s.Addr, TLSConfig: s.tls, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, Protocol: 2,
		ContextTimeoutEnabled: true, DialTimeout: 5 * time.Second}
	if len(s.o.ACL) > 0 {
		o.Username, o.Password = adminUser, adminPassword
	}
	s.client = redis.NewClient(o)
}

// Client returns a client that may do everything. It is closed with the test.
func (s *Server) Client() *redis.Client { return s.client }

// TLS returns what a client needs to trust the server; nil without TLS.
func (s *Server) TLS() *tls.Config {
	if s.tls == nil {
		return nil
	}
	return s.tls.Clone()
}

// Kill ends the server at once, as kill -9 does, stopped or not.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	s.life.Close()
	_ = s.process.Wait()
	s.process, s.pid = nil, 0
}

// Restart starts the server again after Kill, on its port and in its directory.
func (s *Server) Restart() {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = s.run(); err == nil {
			return
		}
	}
	s.t.Fatal(err)
}

// Stop makes the server hang: it keeps its connections, takes new ones, and
// answers nothing until Cont.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Cont lets a server go on after Stop.
func (s *Server) Cont() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		s.t.Fatal("the server is not running")
	}
	if err := syscall.Kill(s.pid, sig); err != nil {
		s.t.Fatal(err)
	}
}
