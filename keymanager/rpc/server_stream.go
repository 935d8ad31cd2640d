package rpc

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// Messages of a snapshot travel together up to batchSize bytes or batchAge.
const (
	batchSize = 32 << 10
	batchAge  = 500 * time.Millisecond
)

// workEvery is how often a stream without a first message says that one is
// being worked on, and how often it is looked after.
const workEvery = time.Second

// Watch implements the service.
func (s *Server) Watch(m *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	ctx := stream.Context()
	return s.guard(ctx, watchMethod, func(c caller) error {
		var conv converter
		from := conv.positionFrom(m.GetFrom())
		kinds := each(m.GetKinds(), func(k pb.CatalogKind) keymanager.CatalogKind { return read(&conv, catalogKinds, k) })
		if conv.err != nil {
			return notValid(conv.err)
		}
		out := &sender[keymanager.Change, *pb.Change]{
			mark: func(v keymanager.Change) keymanager.Mark { return v.Mark },
			convert: func(v keymanager.Change) (*pb.Change, error) {
				m, broken, err := changeTo(v)
				if broken != nil {
					s.opts.Logger.ErrorContext(ctx, "an API cannot be sent: gateways put it out of use", "api", v.API.ID, "error", broken)
				}
				return m, err
			},
			send: func(list []*pb.Change) error { return stream.Send(&pb.WatchResponse{Changes: list}) },
		}
		return serve(ctx, s, out, func(ctx context.Context) error {
			return s.opts.Catalog.Watch(ctx, from, kinds, out.take)
		})
	})
}

// Follow implements the service.
func (s *Server) Follow(m *pb.FollowRequest, stream grpc.ServerStreamingServer[pb.FollowResponse]) error {
	ctx := stream.Context()
	return s.guard(ctx, followMethod, func(c caller) error {
		var conv converter
		from := conv.positionFrom(m.GetFrom())
		if conv.err != nil {
			return notValid(conv.err)
		}
		out := &sender[keymanager.Event, *pb.Event]{
			mark:    func(e keymanager.Event) keymanager.Mark { return e.Mark },
			convert: eventTo,
			send:    func(list []*pb.Event) error { return stream.Send(&pb.FollowResponse{Events: list}) },
		}
		return serve(ctx, s, out, func(ctx context.Context) error {
			return s.opts.Revocations.Follow(ctx, from, out.take)
		})
	})
}

// serve runs a stream until the source ends it, the receiver goes or takes
// nothing for too long, its time has come, or the server drains.
func serve[N any, P proto.Message](ctx context.Context, s *Server, out *sender[N, P], source func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out.end = time.Now().Add(s.age())
	if err := out.work(); err != nil { // at once: the caller sees that somebody is there
		return err
	}
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.opts.Logger.ErrorContext(ctx, "panic in a stream", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				ended <- errInternal
			}
		}()
		ended <- source(ctx)
	}()
	look := time.NewTicker(workEvery)
	defer look.Stop()
	drain, begun := s.drain, time.Now()
	for {
		select {
		case err := <-ended:
			if drain == nil {
				return errDraining
			}
			return err
		case <-drain:
			drain = nil
			cancel() // the source ends
		case <-look.C:
			started, busy := out.state()
			switch {
			case busy > s.opts.SendTimeout:
				// Returning ends the stream, and so the call of Send that hangs.
				return errSlow
			case !started && time.Since(begun) > s.opts.LoadTimeout:
				return errLoading
			case !started:
				if err := out.work(); err != nil {
					return err
				}
			}
		}
	}
}

// How a stream ends when nothing else ended it.
var (
	errSlow     = keymanager.Errorf(keymanager.KindUnavailable, "the receiver takes nothing any more")
	errLoading  = keymanager.Errorf(keymanager.KindUnavailable, "the key manager cannot load what the stream starts with")
	errDraining = keymanager.Errorf(keymanager.KindUnavailable, "the key manager is stopping")
)

// sender writes the messages of a source to a stream. What the receiver has not
// taken holds up the source: nothing is kept here but one batch.
type sender[N any, P proto.Message] struct {
	mark    func(N) keymanager.Mark
	convert func(N) (P, error)
	send    func([]P) error
	end     time.Time // from then on the stream may end

	sending sync.Mutex // held during a Send

	mu      sync.Mutex // of what follows
	started bool
	since   time.Time // when the Send that runs began; zero = none runs

	// Of the source alone.
	batch    []P
	size     int
	sent     time.Time
	snapshot bool // between its begin and its end
}

// take is the source's receiver.
func (o *sender[N, P]) take(n N) error {
	mark := o.mark(n)
	m, err := o.convert(n)
	if err != nil {
		return fmt.Errorf("rpc: %w", err)
	}
	switch mark.Type {
	case keymanager.SnapshotBegin:
		o.snapshot = true
	case keymanager.SnapshotEnd:
		o.snapshot = false
	case keymanager.Item, keymanager.Heartbeat:
	}
	o.batch = append(o.batch, m)
	o.size += proto.Size(m)
	if now := time.Now(); o.snapshot && o.size < batchSize && now.Sub(o.sent) < batchAge {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	if !o.snapshot && time.Now().After(o.end) {
		return errChooseAgain
	}
	return nil
}

func (o *sender[N, P]) flush() error {
	o.sending.Lock()
	defer o.sending.Unlock()
	o.mu.Lock()
	o.started, o.since = true, time.Now()
	o.mu.Unlock()
	err := o.send(o.batch)
	o.mu.Lock()
	o.since = time.Time{}
	o.mu.Unlock()
	o.batch, o.size, o.sent = nil, 0, time.Now()
	return err
}

// work tells a receiver that waits for the first message that it is worked on.
func (o *sender[N, P]) work() error {
	if !o.sending.TryLock() {
		return nil // one is being sent
	}
	defer o.sending.Unlock()
	if started, _ := o.state(); started {
		return nil
	}
	return o.send(nil)
}

// state reports whether the source has begun, and how long the Send that runs
// has taken.
func (o *sender[N, P]) state() (started bool, busy time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		busy = time.Since(o.since)
	}
	return o.started, busy
}
