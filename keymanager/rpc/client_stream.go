package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// spread is the longest wait before a stream that replaces a broken one: not
// all gateways of a key manager that is gone come to the next in one moment.
const spread = 50 * time.Millisecond

// Watch implements keymanager.Catalog over one key manager. An API that cannot
// be understood comes as one that is not routed.
func (c *Client) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	var conv converter
	m := &pb.WatchRequest{From: positionTo(from), Kinds: each(kinds, func(k keymanager.CatalogKind) pb.CatalogKind {
		return write(&conv, catalogKinds, k)
	})}
	if conv.err != nil {
		return notValid(conv.err)
	}
	return receive(ctx, c, watchMethod,
		func(ctx context.Context, e *endpoint) (grpc.ServerStreamingClient[pb.WatchResponse], error) {
			return e.keyManager.Watch(ctx, m)
		},
		(*pb.WatchResponse).GetChanges,
		func(m *pb.Change) (keymanager.Change, error) {
			v, broken, err := changeFrom(m)
			if broken != nil {
				c.opts.Logger.ErrorContext(ctx, "an API cannot be understood: it is out of use here; is the key manager newer?", "api", v.API.ID, "error", broken)
			}
			return v, err
		}, fn)
}

// Follow implements keymanager.Revocations over one key manager.
func (c *Client) Follow(ctx context.Context, from keymanager.Position, fn func(keymanager.Event) error) error {
	m := &pb.FollowRequest{From: positionTo(from)}
	return receive(ctx, c, followMethod,
		func(ctx context.Context, e *endpoint) (grpc.ServerStreamingClient[pb.FollowResponse], error) {
			return e.keyManager.Follow(ctx, m)
		},
		(*pb.FollowResponse).GetEvents, eventFrom, fn)
}

// receive reads one stream until ctx ends, fn fails or the stream breaks.
func receive[R, M, N any](ctx context.Context, c *Client, kind method,
	open func(context.Context, *endpoint) (grpc.ServerStreamingClient[R], error),
	messages func(*R) []M, convert func(M) (N, error), fn func(N) error,
) error {
	e, err := c.pickStream(ctx, kind)
	if err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := c.opts.TryTimeout // until the key manager says that it is there
	silence := time.AfterFunc(limit, cancel)
	defer silence.Stop()
	broken := func(f failure) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if streamCtx.Err() != nil {
			f = failure{err: unavailable(fmt.Errorf("nothing came on the stream for %v", limit)), transport: true}
		}
		c.broke(kind, e, f) //nolint:contextcheck // the probe outlives the stream
		return f.err
	}
	stream, err := open(streamCtx, e)
	if err != nil {
		return broken(failureOf(err))
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return broken(failure{err: keymanager.Errorf(keymanager.KindUnavailable, "the key manager ended the stream")})
		}
		if err != nil {
			return broken(failureOf(err))
		}
		silence.Stop() // the receiver may take its time
		c.home.Store(e)
		for _, message := range messages(m) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n, err := convert(message)
			if err != nil {
				return broken(failure{err: notUnderstood(err)})
			}
			if err := fn(n); err != nil {
				return err
			}
		}
		limit = c.opts.Silence
		silence.Reset(limit)
	}
}

// pickStream returns the key manager for a new stream: another one than that
// where the last one broke.
func (c *Client) pickStream(ctx context.Context, kind method) (*endpoint, error) {
	c.mu.Lock()
	avoid := c.avoid[kind]
	c.mu.Unlock()
	if avoid != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rand.N(spread)): //nolint:gosec // nothing secret
		}
	}
	return c.pick(ctx, avoid)
}

// broke remembers where a stream broke, until the next one of its kind breaks,
// and finds out whether the key manager is well: one that is stopping says so.
func (c *Client) broke(kind method, e *endpoint, f failure) {
	avoid := e
	if f.chooseAgain {
		avoid = nil
	}
	c.mu.Lock()
	c.avoid[kind] = avoid
	c.mu.Unlock()
	if !f.chooseAgain {
		c.suspect(e, f.err)
	}
}
