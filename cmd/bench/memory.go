package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tollgate/envoy"
)

// tollgateEnv names the binary that is measured; bin/tollgate without it.
const tollgateEnv = "BENCH_TOLLGATE"

// benchMemory measures "tollgate serve authz" with the settings it is shipped
// with: idle, and with every token cached.
func benchMemory(ctx context.Context, out io.Writer, c *credentials) error {
	binary := os.Getenv(tollgateEnv)
	if binary == "" {
		binary = filepath.Join("bin", "tollgate")
	}
	if _, err := os.Stat(binary); err != nil {
		return errors.New("no bin/tollgate: run 'make build' first")
	}
	payloads, err := checkRequests(c.tokens, string(benchAPI), 1)
	if err != nil {
		return err
	}
	keyManager, err := startSelfOn(ctx, clientCore, "keymanager-all", filepath.Join(c.dir, "keymanager.sock"), c.dir)
	if err != nil {
		return err
	}
	defer keyManager.stop()
	s := &server{socket: filepath.Join(c.dir, "shipped.sock")}
	config := fmt.Sprintf("state: {dir: %q}\nkeys: {tag_file: %q}\nrpc: {servers: [%q]}\nauthz: {socket: %q}\nops: {address: %q}\n",
		filepath.Join(c.dir, "state"), c.tagKeyFile(), keyManager.socket, s.socket, freeAddress())
	file := filepath.Join(c.dir, "authz.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(binary, "serve", "authz", "--config", file, "--log-level", "error")
	s.cmd.Stderr = os.Stderr
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.stop()
	if err := ready(ctx, variant{"authz", window(s, payloads[:1], 1, envoy.HeaderApplication)}); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nresident memory of \"tollgate serve authz\"")
	fmt.Fprintf(out, "  idle, after the first calls: %.0f MB (%.0f MB of it not files)\n", residentMB(s.pid()), statusMB(s.pid(), "RssAnon:"))
	for part := range 20 { // each window goes around its part more than once
		size := len(payloads) / 20
		o := window(s, payloads[part*size:(part+1)*size], 64, envoy.HeaderApplication)
		o.Warm, o.Measure = 500*time.Millisecond, 1500*time.Millisecond
		if _, err := load(o); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "  %d verdicts cached: %.0f MB (%.0f MB of it not files)\n", len(c.tokens), residentMB(s.pid()), statusMB(s.pid(), "RssAnon:"))
	return nil
}

// freeAddress returns an address that nobody listens on.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}
