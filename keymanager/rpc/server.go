package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// ServerOptions are what a Server needs. The four contracts are required.
type ServerOptions struct {
	Validator   keymanager.Validator
	Catalog     keymanager.Catalog
	Revocations keymanager.Revocations
	Gateways    keymanager.Gateways
	// TrustDomain is that of the callers' certificates. Without it callers with
	// TLS are refused.
	TrustDomain string
	// Logger is told each time what goes wrong: it is for the Logger to leave out
	// what it was just told. nil: no log.
	Logger *slog.Logger
	// StreamAge is how long a stream lasts before the caller is asked to choose
	// a key manager again, so that a fleet spreads anew over those that came
	// back; a quarter more or less at random. 0 = 5 min.
	StreamAge time.Duration
	// SendTimeout is how long a receiver may take nothing of a stream before it
	// is given up; 0 = 30 s.
	SendTimeout time.Duration
	// LoadTimeout is how long a stream may take until its first message;
	// 0 = 30 s. The receiver is told each second that this is still wanted.
	LoadTimeout time.Duration
}

// Server answers for the four contracts. It is a prometheus.Collector.
type Server struct {
	pb.UnimplementedKeyManagerServer
	opts    ServerOptions
	figures *figures

	drain    chan struct{} // closed: streams end
	drainOne sync.Once
}

// NewServer returns a Server.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Validator == nil || o.Catalog == nil || o.Revocations == nil || o.Gateways == nil {
		return nil, errors.New("rpc: ServerOptions needs Validator, Catalog, Revocations and Gateways")
	}
	if o.StreamAge < 0 || o.SendTimeout < 0 || o.LoadTimeout < 0 {
		return nil, errors.New("rpc: a time of ServerOptions is negative")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.StreamAge = cmp.Or(o.StreamAge, 5*time.Minute)
	o.SendTimeout = cmp.Or(o.SendTimeout, 30*time.Second)
	o.LoadTimeout = cmp.Or(o.LoadTimeout, 30*time.Second)
	return &Server{opts: o, figures: newFigures(), drain: make(chan struct{})}, nil
}

// Register adds the service, and grpc.health.v1, to a server that was made with
// GRPCOptions.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	pb.RegisterKeyManagerServer(r, s)
	healthpb.RegisterHealthServer(r, health{server: s})
}

// Drain ends all streams, whose callers then go elsewhere, and says in the
// health service that this server is not to be chosen. Calls are still
// answered: stop the grpc.Server afterwards with GracefulStop.
func (s *Server) Drain() { s.drainOne.Do(func() { close(s.drain) }) }

// Limits of messages. The largest API that keymanager.ValidateAPI allows has
// some 15 MB; a report of 10,000 nodes about 2 MB.
const (
	maxToServer = 8 << 20
	maxToClient = 32 << 20
)

// maxStreams is how many calls one connection may have at once. More wait in
// the client.
const maxStreams = 2000

// GRPCOptions returns what a grpc.Server needs for Register, beside its
// credentials.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		// Goroutines kept for calls, whose stacks have grown already: Validate
		// costs a tenth less. Each gateway takes two or three for its streams.
		grpc.NumStreamWorkers(256),
		grpc.MaxRecvMsgSize(maxToServer),
		grpc.MaxSendMsgSize(maxToClient),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second,
			// A tenth more or less at random. Who is behind a balancer comes out
			// somewhere else. Streams end before (StreamAge): the grace is longer
			// than their age.
			MaxConnectionAge: 5 * time.Minute, MaxConnectionAgeGrace: 7 * time.Minute,
		}),
	}
}

// guard runs one call and counts it. What it returns is the status to answer
// with.
func (s *Server) guard(ctx context.Context, m method, f func(caller) error) error {
	err := s.figures.of[m].count(ctx, func() error { return s.run(ctx, m, f) })
	if err != nil {
		return statusOf(err)
	}
	return nil
}

// run runs one call for whoever may make it: a panic fails this call alone.
func (s *Server) run(ctx context.Context, m method, f func(caller) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.opts.Logger.ErrorContext(ctx, "panic in a call", "method", string(m), "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errInternal
		}
	}()
	c, err := s.identify(ctx, m)
	if err != nil {
		s.opts.Logger.WarnContext(ctx, "a call was refused", "method", string(m), "error", err)
		return err
	}
	if err := ctx.Err(); err != nil { // nobody waits for the answer any more
		return err
	}
	err = f(c)
	if err != nil && keymanager.KindOf(err) == keymanager.KindInternal && ctx.Err() == nil {
		s.opts.Logger.ErrorContext(ctx, "a call failed", "method", string(m), "error", err)
	}
	return err
}

// Validate implements the service.
func (s *Server) Validate(ctx context.Context, m *pb.ValidateRequest) (out *pb.ValidateResponse, err error) {
	err = s.guard(ctx, validateMethod, func(caller) error {
		q, err := queryFrom(m)
		if err != nil {
			return notValid(err)
		}
		v, err := s.opts.Validator.Validate(ctx, q)
		if err != nil {
			return err
		}
		if v == nil {
			return errInternal
		}
		verdict, err := verdictTo(v)
		if err != nil {
			return err
		}
		out = &pb.ValidateResponse{Verdict: verdict}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Report implements the service.
func (s *Server) Report(ctx context.Context, m *pb.ReportRequest) (*pb.ReportResponse, error) {
	err := s.guard(ctx, reportMethod, func(c caller) error {
		state, err := stateFrom(m.GetState())
		if err != nil {
			return notValid(err)
		}
		if err := c.mayReport(state); err != nil {
			return err
		}
		return s.opts.Gateways.Report(ctx, state)
	})
	if err != nil {
		return nil, err
	}
	return &pb.ReportResponse{}, nil
}

func notValid(err error) error {
	return &keymanager.Error{Kind: keymanager.KindInvalid, Detail: "the request cannot be understood: " + err.Error()}
}

// age returns how long one stream lasts.
func (s *Server) age() time.Duration {
	return s.opts.StreamAge*3/4 + rand.N(s.opts.StreamAge/2+1) //nolint:gosec // nothing secret
}
