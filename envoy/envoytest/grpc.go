package envoytest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// GRPCContext is the context of an API whose back end is a GRPC: the service of
// grpc-go's interoperability tests.
const GRPCContext = "/grpc.testing.TestService"

// GRPC is a gRPC back end. Unary calls and streams in both directions echo
// their payload; a stream to the server is answered with its size.
type GRPC struct {
	grpc_testing.UnimplementedTestServiceServer
	addr string

	mu   sync.Mutex
	seen []metadata.MD
}

// NewGRPC starts a gRPC back end on a loopback port.
func NewGRPC(t testing.TB) *GRPC {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &GRPC{addr: lis.Addr().String()}
	srv := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(srv, g)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := srv.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			t.Errorf("gRPC back end: %v", err)
		}
	})
	t.Cleanup(func() {
		srv.Stop()
		wait.Wait()
	})
	return g
}

// Addr returns host:port.
func (g *GRPC) Addr() string { return g.addr }

// Seen returns the metadata of the calls so far.
func (g *GRPC) Seen() []metadata.MD {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]metadata.MD(nil), g.seen...)
}

// Forget drops the calls so far.
func (g *GRPC) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = nil
}

func (g *GRPC) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = append(g.seen, md)
}

// EmptyCall answers with nothing.
func (g *GRPC) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	g.note(ctx)
	return &grpc_testing.Empty{}, nil
}

// UnaryCall answers with the payload.
func (g *GRPC) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	g.note(ctx)
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}

// StreamingOutputCall answers with the payload as often as response parameters
// were sent; with none until the caller gives up.
func (g *GRPC) StreamingOutputCall(r *grpc_testing.StreamingOutputCallRequest,
	s grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	g.note(s.Context())
	for range r.GetResponseParameters() {
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
	if len(r.GetResponseParameters()) == 0 {
		<-s.Context().Done()
	}
	return nil
}

// StreamingInputCall answers with the number of bytes that came.
func (g *GRPC) StreamingInputCall(
	s grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	g.note(s.Context())
	var size int32
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		if err != nil {
			return err
		}
		size += int32(len(r.GetPayload().GetBody()))
	}
}

// FullDuplexCall answers each message with its payload, at once.
func (g *GRPC) FullDuplexCall(
	s grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	g.note(s.Context())
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

// DialGRPC returns a client of the service through a gateway.
func DialGRPC(t testing.TB, addr, authority string) grpc_testing.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithAuthority(authority),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

// Payload wraps text.
func Payload(text string) *grpc_testing.Payload { return &grpc_testing.Payload{Body: []byte(text)} }
