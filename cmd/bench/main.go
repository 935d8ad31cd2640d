// Command bench measures authz against bare servers and inside the chain with
// the real Envoy. It prints ratios to a reference measured in the same run:
// absolute rates of a shared machine say little. It stops by itself, and talks
// to Unix sockets and loopback only. It is not shipped.
//
//	bench check    Check with every token cached, beside bare grpc-go
//	bench miss     tokens seen first, and forged ones
//	bench remote   tokens that Redis has, or the key manager in another process
//	bench memory   authz as it is shipped, idle and with 100,000 tokens
//	bench revoke   a revocation answered, until 1 and 100 gateways refuse
//	bench envoy    the chain Envoy + authz, beside Envoy alone and jwt_authn
//	bench latency  what authz adds to the latency of an echo behind Envoy
//	bench change   one API changed among 1k, 10k and 100k, until Envoy uses it
//	bench push     xds as it is shipped: 100,000 APIs to a new gateway, and memory
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

const checkMethod = "/envoy.service.auth.v3.Authorization/Check"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: bench check|miss|remote|memory|revoke|envoy|latency|change|push [ROUNDS]")
	}
	if args[0] == "serve" {
		return serve(ctx, args[1:])
	}
	rounds := 10
	if len(args) > 1 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > 100 {
			return fmt.Errorf("ROUNDS is %q: want a number from 1 to 100", args[1])
		}
		rounds = n
	}
	dir, err := os.MkdirTemp("/tmp", "tgbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	creds, err := newCredentials(dir)
	if err != nil {
		return err
	}
	switch args[0] {
	case "check":
		return benchCheck(ctx, out, creds, rounds)
	case "miss":
		return benchMiss(ctx, out, creds, rounds)
	case "remote":
		return benchRemote(ctx, out, creds, rounds)
	case "memory":
		return benchMemory(ctx, out, creds)
	case "revoke":
		return benchRevoke(ctx, out, creds)
	case "envoy":
		return benchEnvoy(ctx, out, creds, rounds)
	case "latency":
		return benchLatency(ctx, out, creds, rounds)
	case "change": // ROUNDS is how many of the configurations
		return benchChange(ctx, out, dir, rounds)
	case "push":
		return benchPush(ctx, out, dir)
	default:
		return fmt.Errorf("%q is not a benchmark: want check, miss, remote, memory, revoke, envoy, latency, change or push", args[0])
	}
}

// serve runs one of the servers that are measured, in a process of its own.
func serve(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench serve bare|echo|authz|catalog|keymanager|keymanager-all|authz-redis|authz-keymanager SOCKET DIR")
	}
	l, err := net.Listen("unix", args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "bare":
		return serveBare(ctx, l)
	case "echo":
		return serveEcho(ctx, l)
	}
	debug.SetGCPercent(400) // as tollgate sets it
	keyManager := filepath.Join(args[2], "keymanager.sock")
	switch args[0] {
	case "catalog":
		return serveCatalog(ctx, l)
	case "authz":
		return serveAuthz(ctx, l, args[2])
	case "keymanager":
		return serveKeyManager(ctx, l, args[2], false)
	case "keymanager-all":
		return serveKeyManager(ctx, l, args[2], true)
	case "authz-redis":
		return serveRemote(ctx, l, args[2], keyManager, levelRedis)
	case "authz-keymanager":
		return serveRemote(ctx, l, args[2], keyManager, levelKeyManager)
	default:
		return fmt.Errorf("%q is not a server", args[0])
	}
}

// yardsticks starts a bare server and the real authz.
func yardsticks(ctx context.Context, dir string) (bare, authz *server, stop func(), err error) {
	if bare, err = startSelf(ctx, "bare", filepath.Join(dir, "bare.sock"), dir); err != nil {
		return nil, nil, nil, err
	}
	if authz, err = startSelf(ctx, "authz", filepath.Join(dir, "authz.sock"), dir); err != nil {
		bare.stop()
		return nil, nil, nil, err
	}
	return bare, authz, func() { bare.stop(); authz.stop() }, nil
}

// window is the load of one measurement.
func window(s *server, payloads [][]byte, inFlight int, want string) loadOptions {
	o := loadOptions{Addr: s.addr(), Proto: "grpc", Method: checkMethod, Payloads: payloads, InFlight: inFlight, Conns: 1,
		Warm: 150 * time.Millisecond, Measure: 350 * time.Millisecond, PIDs: []int{s.pid()}}
	if want != "" {
		o.Want = []byte(want)
	}
	return o
}
