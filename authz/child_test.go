//go:build faults

package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"tollgate/authz/cache"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/rpc"
)

// childEnv makes the test binary a process of authz that serves in the folder
// it names.
const childEnv = "TOLLGATE_AUTHZ_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := serveChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serveChild is authz with its caches, whose key manager is another process.
func serveChild(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.DiscardHandler)
	client, err := rpc.NewClient(rpc.ClientOptions{Targets: []string{filepath.Join(dir, "km.sock")}, Logger: log})
	if err != nil {
		return err
	}
	capped, err := cache.NewCap(cache.CapOptions{Next: client, Now: time.Now})
	if err != nil {
		return err
	}
	flight, err := cache.NewFlight(cache.FlightOptions{Next: capped, Logger: log})
	if err != nil {
		return err
	}
	lru, err := cache.NewLRU(cache.LRUOptions{Next: flight, Now: time.Now})
	if err != nil {
		return err
	}
	s, err := New(Options{ID: "child", Validator: lru, Uncached: capped, Catalog: client, Revocations: client, Gateways: client,
		Tags: prefixTags{}, Watchdog: 2 * time.Second, Now: time.Now, Logger: log})
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "authz.sock"))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.GRPC().Stop)()
	go func() { _ = s.GRPC().Serve(l) }()
	return s.Run(ctx) // an error of the watchdog ends the process
}

// child is an authz in a process of its own, and its key manager here.
type child struct {
	km     *keymanagertest.KeyManager
	dir    string
	cmd    *exec.Cmd
	client authv3.AuthorizationClient
	ended  chan error
}

// startChild runs command and its arguments before the test binary, such as a
// shell that sets limits.
func startChild(t *testing.T, api *keymanager.API, env []string, command ...string) *child {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "authz")
	must(t, err)
	c := &child{km: keymanagertest.New(keymanagertest.Options{Heartbeat: 100 * time.Millisecond}, api), dir: dir, ended: make(chan error, 1)}
	service, err := rpc.NewServer(rpc.ServerOptions{Validator: c.km, Catalog: c.km, Revocations: c.km, Gateways: c.km})
	must(t, err)
	server := grpc.NewServer(rpc.GRPCOptions()...)
	service.Register(server)
	l, err := net.Listen("unix", filepath.Join(dir, "km.sock"))
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	self, err := os.Executable()
	must(t, err)
	argv := append(command, self)
	c.cmd = exec.Command(argv[0], argv[1:]...)
	c.cmd.Env = append(append(os.Environ(), childEnv+"="+dir), env...)
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, c.cmd.Start())
	go func() { c.ended <- c.cmd.Wait() }()
	conn := c.dial(t)
	t.Cleanup(func() {
		_ = conn.Close()
		_ = c.cmd.Process.Kill()
		<-c.ended
		server.Stop()
		if err := <-served; !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			must(t, err)
		}
		must(t, os.RemoveAll(dir))
	})
	c.client = authv3.NewAuthorizationClient(conn)
	return c
}

func (c *child) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+filepath.Join(c.dir, "authz.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	return conn
}

// issue makes a token that passes.
func (c *child) issue(id byte, value string) {
	v := keymanagertest.ActiveVerdict(id, time.Now().Add(-time.Minute))
	c.km.SetVerdict(keymanagerToken(value), "", v)
}

// ask returns the HTTP status that the caller would get, 0 if authz did not
// answer.
func (c *child) ask(t *testing.T, client authv3.AuthorizationClient, token string, limit time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	m, err := client.Check(ctx, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + token}}.message())
	if err != nil {
		return 0
	}
	return see(t, m).status
}

// lives checks that the process has not ended.
func (c *child) lives(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err
		t.Fatalf("the process ended: %v", err)
	default:
	}
}

// status returns a line of /proc/PID/status in MB.
func (c *child) megabytes(t *testing.T, name string) (mb int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			_, err := fmt.Sscan(rest, &mb)
			must(t, err)
		}
	}
	return mb / 1024
}
