package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tollgate/envoy"
)

// tollgateEnv names the binary that is measured; bin/tollgate without it.
const tollgateEnv = "BENCH_TOLLGATE"

// benchMemory measures "tollgate serve authz" with the settings it is shipped
// with: idle, and with every token cached.
func benchMemory(ctx context.Context, out io.Writer, c *credentials) error {
	binary, err := tollgateBinary()
	if err != nil {
		return err
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
	s, ops := &server{socket: filepath.Join(c.dir, "shipped.sock")}, freeAddress()
	config := fmt.Sprintf("state: {dir: %q}\nkeys: {tag_file: %q}\nrpc: {servers: [%q]}\nauthz: {socket: %q}\nops: {address: %q}\n",
		filepath.Join(c.dir, "state"), c.tagKeyFile(), keyManager.socket, s.socket, ops)
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
	resident := func(what string) {
		fmt.Fprintf(out, "  %-36s %.0f MB (%.0f MB of it not files)\n", what+":", residentMB(s.pid()), statusMB(s.pid(), "RssAnon:"))
	}
	calm := func() error { return pause(ctx, 8*time.Second) }
	if err := calm(); err != nil {
		return err
	}
	resident("idle, after the first calls")
	for part := range 20 { // each window goes around its part more than once
		size := len(payloads) / 20
		o := window(s, payloads[part*size:(part+1)*size], 64, envoy.HeaderApplication)
		o.Warm, o.Measure = 500*time.Millisecond, 1500*time.Millisecond
		if _, err := load(o); err != nil {
			return err
		}
	}
	n, err := cachedVerdicts(ctx, ops)
	if err != nil {
		return err
	}
	resident(fmt.Sprintf("%d verdicts cached, at full load", n))
	if err := calm(); err != nil {
		return err
	}
	resident(fmt.Sprintf("%d verdicts cached, then idle", n))
	return nil
}

func tollgateBinary() (string, error) {
	binary := os.Getenv(tollgateEnv)
	if binary == "" {
		binary = filepath.Join("bin", "tollgate")
	}
	if _, err := os.Stat(binary); err != nil {
		return "", errors.New("no bin/tollgate: run 'make build' first")
	}
	return binary, nil
}

// cachedVerdicts reads from the metrics how many verdicts authz holds.
func cachedVerdicts(ctx context.Context, ops string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), `tollgate_authz_cache_entries{level="lru"} `); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, errors.New("the metrics of authz do not say how many verdicts it holds")
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
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
