package envoytest

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// AccessLog takes usage records on a Unix socket, and keeps all that came, byte
// for byte.
type AccessLog struct {
	alsv3.UnimplementedAccessLogServiceServer
	t    testing.TB
	path string

	mu      sync.Mutex
	server  *grpc.Server
	entries []*accesslogv3.TCPAccessLogEntry
	raw     []byte
	wait    sync.WaitGroup
}

// NewAccessLog starts one.
func NewAccessLog(t testing.TB) *AccessLog {
	t.Helper()
	a := &AccessLog{t: t, path: filepath.Join(Dir(t), "usage.sock")}
	a.Start()
	t.Cleanup(a.Stop)
	return a
}

// Path returns the socket.
func (a *AccessLog) Path() string { return a.path }

// Start listens, again after Stop.
func (a *AccessLog) Start() {
	a.t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	server := grpc.NewServer()
	alsv3.RegisterAccessLogServiceServer(server, a)
	a.mu.Lock()
	a.server = server
	a.mu.Unlock()
	a.wait.Go(func() {
		if err := server.Serve(lis); err != nil {
			a.t.Errorf("access log: %v", err)
		}
	})
}

// Stop ends every stream and closes the socket.
func (a *AccessLog) Stop() {
	a.mu.Lock()
	server := a.server
	a.mu.Unlock()
	server.Stop()
	a.wait.Wait()
}

// StreamAccessLogs implements the service.
func (a *AccessLog) StreamAccessLogs(s alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		raw, err := proto.Marshal(m) // with what this package does not know
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		a.mu.Lock()
		a.raw = append(a.raw, raw...)
		a.entries = append(a.entries, m.GetTcpLogs().GetLogEntry()...)
		a.mu.Unlock()
	}
}

// Raw returns the messages so far.
func (a *AccessLog) Raw() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]byte(nil), a.raw...)
}

// Entries returns the entries so far.
func (a *AccessLog) Entries() []*accesslogv3.TCPAccessLogEntry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*accesslogv3.TCPAccessLogEntry(nil), a.entries...)
}
