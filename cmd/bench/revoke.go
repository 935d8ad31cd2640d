package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"tollgate/authz"
	"tollgate/authz/revoked"
	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/rpc"
)

// revocations is how many are timed with each number of gateways.
const revocations = 300

// benchRevoke measures how long after the answer to a revocation a gateway still
// lets the token through: a real authz that is asked all the while, and then a
// hundred receivers of the same stream.
func benchRevoke(ctx context.Context, out io.Writer, c *credentials) error {
	_, tags, err := readCredentials(c.dir)
	if err != nil {
		return err
	}
	k, err := newKeyManager(ctx, c.dir, tags, c.sample())
	if err != nil {
		return err
	}
	socket := filepath.Join(c.dir, "km.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- k.run(running, l) }()
	defer func() { stop(); <-ended }()

	fmt.Fprintf(out, "\nrevocation answered until refused, %d each, one at a time; key manager on %s, gRPC over a Unix socket\n", revocations, databaseName())
	fmt.Fprintln(out, "gateways  p50 ms  p99 ms  worst ms  the revocation itself, p50 ms")
	one, err := newAskedGateway(ctx, c, socket)
	if err != nil {
		return err
	}
	first, took, err := timeRevocations(ctx, k, 0, one.refused)
	one.close()
	if err != nil {
		return err
	}
	row(out, "1", first, took)
	fleet := newFleet(ctx, socket, 100)
	defer fleet.close()
	if err := fleet.await(ctx, func(p keymanager.Position) bool { return p.Seq > 0 }); err != nil {
		return err
	}
	all, took, err := timeRevocations(ctx, k, revocations, fleet.refused)
	if err != nil {
		return err
	}
	row(out, "100", all, took)
	return nil
}

func row(out io.Writer, name string, waits, took []time.Duration) {
	ms := func(list []time.Duration, part float64) float64 {
		return float64(list[int(part*float64(len(list)-1))].Microseconds()) / 1000
	}
	slices.Sort(waits)
	slices.Sort(took)
	fmt.Fprintf(out, "%8s %7.2f %7.2f %9.2f %8.2f\n", name, ms(waits, .5), ms(waits, .99), ms(waits, 1), ms(took, .5))
}

// timeRevocations revokes tokens from number first on. The wait begins when the
// revocation is answered and ends when every gateway refuses.
func timeRevocations(ctx context.Context, k *realKeyManager, first int, refused func(context.Context, int, keymanager.Position) error) (waits, took []time.Duration, err error) {
	for i := range revocations {
		begun := time.Now()
		p, err := k.revoke(ctx, first+i)
		if err != nil {
			return nil, nil, err
		}
		answered := time.Now()
		if err := refused(ctx, first+i, p); err != nil {
			return nil, nil, err
		}
		waits, took = append(waits, time.Since(answered)), append(took, answered.Sub(begun))
	}
	return waits, took, nil
}

// askedGateway is a real authz with its caches behind a Unix socket.
type askedGateway struct {
	payloads [][]byte
	conn     *grpc.ClientConn
	close    func()
}

func newAskedGateway(ctx context.Context, c *credentials, keyManager string) (*askedGateway, error) {
	payloads, err := checkRequests(c.sample(), string(benchAPI), 1)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(c.dir, "one.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- serveRemote(ctx, l, c.dir, keyManager, levelMemory) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		cancel()
		return nil, errors.Join(err, <-ended)
	}
	g := &askedGateway{payloads: payloads, conn: conn}
	g.close = func() { _ = conn.Close(); cancel(); <-ended }
	for i := range payloads { // every token is cached, and is let through
		if err := g.await(ctx, i, envoy.HeaderApplication); err != nil {
			g.close()
			return nil, err
		}
	}
	return g, nil
}

func (g *askedGateway) refused(ctx context.Context, i int, _ keymanager.Position) error {
	return g.await(ctx, i, "900901")
}

// await asks until the answer contains want.
func (g *askedGateway) await(ctx context.Context, i int, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var last []byte
	for ctx.Err() == nil {
		err := g.conn.Invoke(ctx, checkMethod, g.payloads[i], &last, grpc.ForceCodec(bytesCodec{}))
		if err == nil && contains(last, want) {
			return nil
		}
	}
	return fmt.Errorf("token %d: never %q: the last answer is %q", i, want, last)
}

// fleet is the part of many gateways that a revocation reaches.
type fleet struct {
	stop func()
	mu   sync.Mutex
	move *sync.Cond
	at   []keymanager.Position
}

func newFleet(ctx context.Context, keyManager string, n int) *fleet {
	ctx, cancel := context.WithCancel(ctx)
	f := &fleet{at: make([]keymanager.Position, n)}
	f.move = sync.NewCond(&f.mu)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { f.follow(ctx, keyManager, i) })
	}
	f.stop = func() { cancel(); wait.Wait() }
	return f
}

func (f *fleet) close() { f.stop() }

// follow is one gateway with a connection of its own.
func (f *fleet) follow(ctx context.Context, keyManager string, i int) {
	client, err := rpc.NewClient(rpc.ClientOptions{Targets: []string{keyManager}})
	if err != nil {
		return
	}
	defer client.Close()
	set := revoked.New(0)
	for ctx.Err() == nil {
		_ = client.Follow(ctx, set.Start(), func(e keymanager.Event) error {
			if err := set.Apply(e); err != nil {
				return err
			}
			f.mu.Lock()
			f.at[i] = set.Position()
			f.mu.Unlock()
			f.move.Broadcast()
			return nil
		})
	}
}

func (f *fleet) refused(ctx context.Context, _ int, p keymanager.Position) error {
	return f.await(ctx, func(at keymanager.Position) bool { return at.Reached(p) })
}

// await waits until ok holds for the positions of all.
func (f *fleet) await(ctx context.Context, ok func(keymanager.Position) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	wake := context.AfterFunc(ctx, f.move.Broadcast)
	defer wake()
	f.mu.Lock()
	defer f.mu.Unlock()
	for slices.ContainsFunc(f.at, func(p keymanager.Position) bool { return !ok(p) }) {
		if ctx.Err() != nil {
			return fmt.Errorf("not all gateways have it: %w", ctx.Err())
		}
		f.move.Wait()
	}
	return nil
}

// newRemoteAuthz is an authz with these verdicts and a key manager elsewhere.
func newRemoteAuthz(client *rpc.Client, verdicts, uncached keymanager.Validator, tags authz.Tags, log *slog.Logger) (*authz.Server, error) {
	return authz.New(authz.Options{ID: "bench", Validator: verdicts, Uncached: uncached, Catalog: client, Revocations: client, Gateways: client,
		Tags: tags, Now: time.Now, Logger: log})
}
