package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"tollgate/authz/cache"
	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/rpc"
)

// level is where an authz that is measured finds its verdicts.
type level string

const (
	levelMemory     level = "memory"     // LRU → flight → cap → key manager
	levelRedis      level = "redis"      // flight → Redis → cap → key manager
	levelKeyManager level = "keymanager" // flight → cap → key manager
)

// remoteVerdicts joins what stands before the key manager as cmd/tollgate does,
// without the caches above the level.
func remoteVerdicts(ctx context.Context, g *errgroup.Group, dir string, keyManager keymanager.Validator, from level, log *slog.Logger) (verdicts, uncached keymanager.Validator, err error) {
	limited, err := cache.NewCap(cache.CapOptions{Next: keyManager, Now: time.Now})
	if err != nil {
		return nil, nil, err
	}
	var next keymanager.Validator = limited
	if from == levelRedis {
		file, err := cache.NewRedisKeys(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		keys, err := cache.ParseRedisKeys(file)
		if err != nil {
			return nil, nil, err
		}
		client, err := cache.NewRedisClient(cache.RedisServer{Addresses: []string{filepath.Join(dir, "redis.sock")}})
		if err != nil {
			return nil, nil, err
		}
		redis, err := cache.NewRedis(cache.RedisOptions{Next: limited, Client: client, Keys: keys, Now: time.Now, Rand: rand.Reader, Logger: log})
		if err != nil {
			return nil, nil, err
		}
		g.Go(func() error { defer client.Close(); return redis.Run(ctx) })
		next = redis
	}
	flight, err := cache.NewFlight(cache.FlightOptions{Next: next, Logger: log})
	if err != nil || from != levelMemory {
		return flight, limited, err
	}
	lru, err := cache.NewLRU(cache.LRUOptions{Next: flight, Now: time.Now})
	return lru, limited, err
}

// serveRemote runs an authz whose key manager is another process.
func serveRemote(ctx context.Context, l net.Listener, dir, keyManager string, from level) error {
	_, tags, err := readCredentials(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(io.Discard, nil)) // info: a refusal would be formatted
	client, err := rpc.NewClient(rpc.ClientOptions{Targets: []string{keyManager}, Logger: log})
	if err != nil {
		return err
	}
	defer client.Close()
	g, ctx := errgroup.WithContext(ctx)
	verdicts, uncached, err := remoteVerdicts(ctx, g, dir, client, from, log)
	if err != nil {
		return err
	}
	s, err := newRemoteAuthz(client, verdicts, uncached, tags, log)
	if err != nil {
		return err
	}
	g.Go(func() error { return s.Run(ctx) })
	server := s.GRPC()
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	g.Go(func() error { return server.Serve(l) })
	return g.Wait()
}

// benchRemote compares what a verdict costs that this gateway does not hold:
// one that Redis has, and one that the key manager has to read.
func benchRemote(ctx context.Context, out io.Writer, c *credentials, rounds int) error {
	payloads, err := checkRequests(c.sample(), string(benchAPI), 1)
	if err != nil {
		return err
	}
	redis, err := startRedis(ctx, c.dir)
	if err != nil {
		return err
	}
	defer redis.stop()
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	start := func(core, kind string) (*server, error) {
		s, err := startSelfOn(ctx, core, kind, filepath.Join(c.dir, kind+".sock"), c.dir)
		if err == nil {
			servers = append(servers, s)
		}
		return s, err
	}
	// The key manager and Redis are other machines: not on the core that is
	// measured.
	keyManager, err := start(clientCore, "keymanager")
	if err != nil {
		return err
	}
	bare, err := start(serverCore, "bare")
	if err != nil {
		return err
	}
	fromRedis, err := start(serverCore, "authz-redis")
	if err != nil {
		return err
	}
	fromKeyManager, err := start(serverCore, "authz-keymanager")
	if err != nil {
		return err
	}
	for _, n := range []int{1, 64} {
		fmt.Fprintf(out, "\nCheck of a token that this gateway does not hold, %d in flight; key manager on %s\n", n, databaseName())
		vs := []variant{
			{"bare grpc-go", window(bare, payloads, n, "")},
			{"Redis has it", window(fromRedis, payloads, n, envoy.HeaderApplication)},
			{"key manager has it", window(fromKeyManager, payloads, n, envoy.HeaderApplication)},
		}
		for i := range vs {
			vs[i].load.Behind = []int{redis.pid(), keyManager.pid()}
		}
		if err := ready(ctx, vs...); err != nil {
			return err
		}
		samples, err := compare(rounds, vs)
		if err != nil {
			return err
		}
		report(out, vs, samples, "server")
	}
	return nil
}

// ready waits until every server gives the wanted answers.
func ready(ctx context.Context, vs ...variant) error {
	for _, v := range vs {
		for deadline := time.Now().Add(time.Minute); ; {
			r, err := load(v.load)
			if err == nil && r.Errors == 0 {
				break
			}
			if ctx.Err() != nil || time.Now().After(deadline) {
				return fmt.Errorf("%s: never ready: %w", v.name, errors.Join(err, ctx.Err()))
			}
		}
	}
	return nil
}

func databaseName() string {
	if os.Getenv(postgresEnv) != "" {
		return "PostgreSQL"
	}
	return "SQLite"
}

// startRedis runs a Redis that forgets everything with its end.
func startRedis(ctx context.Context, dir string) (*server, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("no redis-server: install the package redis-server")
	}
	socket := filepath.Join(dir, "redis.sock")
	s := &server{socket: socket, cmd: pinned(clientCore, binary, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
		"--dir", dir, "--loglevel", "warning")}
	return s, s.start(ctx)
}

// bytesCodec sends and receives encoded messages as they are.
type bytesCodec struct{}

// Name implements encoding.Codec.
func (bytesCodec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (bytesCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("bench: a message is a %T", v)
	}
	return b, nil
}

// Unmarshal implements encoding.Codec.
func (bytesCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("bench: a message is wanted as a %T", v)
	}
	*b = bytes.Clone(data)
	return nil
}

func contains(message []byte, text string) bool { return bytes.Contains(message, []byte(text)) }
