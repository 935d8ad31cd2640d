package usage

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tollgate/keymanager/peertest"
)

// now is a moment after the recorded entries.
var now = time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)

// serve serves a Receiver on a socket, or with a certificate on loopback, and
// returns how to dial it.
func (r *rig) serve(secured *tls.Config, o ReceiverOptions) (*Receiver, string) {
	r.t.Helper()
	o.Writer, o.Logger = r.w, slog.New(slog.DiscardHandler)
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	receiver, err := NewReceiver(o)
	if err != nil {
		r.t.Fatal(err)
	}
	network, address, opts := "unix", filepath.Join(r.t.TempDir(), "s"), []grpc.ServerOption(nil)
	if secured != nil {
		network, address, opts = "tcp", "127.0.0.1:0", []grpc.ServerOption{grpc.Creds(credentials.NewTLS(secured))}
	}
	lis, err := (&net.ListenConfig{}).Listen(r.t.Context(), network, address)
	if err != nil {
		r.t.Fatal(err)
	}
	server := grpc.NewServer(opts...)
	receiver.Register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	r.t.Cleanup(func() { server.Stop(); <-done })
	if secured != nil {
		return receiver, lis.Addr().String()
	}
	return receiver, "unix:" + address
}

func open(t *testing.T, address string, secured *tls.Config) alsv3.AccessLogService_StreamAccessLogsClient {
	t.Helper()
	creds := insecure.NewCredentials()
	if secured != nil {
		creds = credentials.NewTLS(secured)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := alsv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func identifier(group, node string) *alsv3.StreamAccessLogsMessage_Identifier {
	return &alsv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: node, Cluster: group}, LogName: "tollgate.usage"}
}

func plain(entries ...*accesslogv3.TCPAccessLogEntry) *alsv3.StreamAccessLogsMessage_TcpLogs {
	return &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: entries}}
}

func TestReceiver(t *testing.T) {
	r := newRig(t, WriterOptions{})
	r.run()
	_, address := r.serve(nil, ReceiverOptions{})
	stream := open(t, address, nil)
	good := entry(t, "plain_200.json", &accesslogv3.TCPAccessLogEntry{})
	bad := proto.CloneOf(good)
	bad.CommonProperties.RouteName = "\n"
	begun := proto.CloneOf(good)
	begun.CommonProperties.AccessLogType = accesslogv3.AccessLogType_DownstreamStart
	lasting := proto.CloneOf(good)
	lasting.CommonProperties.IntermediateLogEntry = true //nolint:staticcheck // as an Envoy says it that does not know the type
	longAgo := proto.CloneOf(good)
	longAgo.CommonProperties.StartTime = timestamppb.New(now.Add(-1000 * time.Hour))
	web := entry(t, "http_401.json", &accesslogv3.HTTPAccessLogEntry{})
	for _, m := range []*alsv3.StreamAccessLogsMessage{
		{Identifier: identifier("edge", "envoy-1"), LogEntries: plain(good, bad, begun, lasting, nil, longAgo)},
		{}, // of no kind
		{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: []*accesslogv3.HTTPAccessLogEntry{web, {}}}}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	r.wait("the records are stored", func() bool { return r.db.stored() >= 4 })
	r.end()
	for _, rec := range r.db.records {
		if rec.Gateway != "envoy-1" || rec.Group != "edge" {
			t.Errorf("record of %s/%s", rec.Group, rec.Gateway)
		}
	}
	if at := r.db.records[1].At; !at.Equal(now) {
		t.Errorf("a call of long ago began at %s", at)
	}
	// An empty entry of the web's kind is a call of which nothing is known.
	if r.db.stored() != 4 || r.outcome(outcomeMalformed) != 2 {
		t.Errorf("%d stored, %d malformed", r.db.stored(), r.outcome(outcomeMalformed))
	}
}

// A gateway speaks for itself alone, and nobody else speaks at all.
func TestReceiverIdentity(t *testing.T) {
	ca := peertest.CA(t)
	r := newRig(t, WriterOptions{})
	r.run()
	_, remote := r.serve(ca.Server("keymanager/km-1").ServerTLS(), ReceiverOptions{TrustDomain: peertest.TrustDomain})
	_, untrusting := r.serve(ca.Server("keymanager/km-1").ServerTLS(), ReceiverOptions{})
	_, socket := r.serve(nil, ReceiverOptions{TrustDomain: peertest.TrustDomain})
	gateway := ca.Client("gateway/edge/envoy-1").ClientTLS()
	for _, tt := range []struct {
		name    string
		address string
		tls     *tls.Config
		who     *alsv3.StreamAccessLogsMessage_Identifier
		want    codes.Code
	}{
		{"itself", remote, gateway, identifier("edge", "envoy-1"), codes.OK},
		{"another node", remote, gateway, identifier("edge", "envoy-2"), codes.PermissionDenied},
		{"another group", remote, gateway, identifier("inner", "envoy-1"), codes.PermissionDenied},
		{"nobody", remote, gateway, nil, codes.InvalidArgument},
		{"an authz", remote, ca.Client("authz/edge/envoy-1").ClientTLS(), identifier("edge", "envoy-1"), codes.PermissionDenied},
		{"an xds", remote, ca.Client("xds/envoy-1").ClientTLS(), identifier("edge", "envoy-1"), codes.PermissionDenied},
		{"a key manager", remote, ca.Client("keymanager/envoy-1").ClientTLS(), identifier("edge", "envoy-1"), codes.PermissionDenied},
		{"without a trust domain", untrusting, gateway, identifier("edge", "envoy-1"), codes.PermissionDenied},
		{"on this machine", socket, nil, identifier("edge", "envoy-9"), codes.OK},
		{"nobody on this machine", socket, nil, nil, codes.InvalidArgument},
		{"two lines on this machine", socket, nil, identifier("edge", "a\nb"), codes.InvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := r.outcome(outcomeStored)
			stream := open(t, tt.address, tt.tls)
			// A refused stream may have ended before the first message goes out.
			_ = stream.Send(&alsv3.StreamAccessLogsMessage{Identifier: tt.who, LogEntries: plain(entry(t, "plain_200.json", &accesslogv3.TCPAccessLogEntry{}))})
			_, err := stream.CloseAndRecv()
			if got := status.Code(err); got != tt.want {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			if tt.want == codes.OK {
				r.wait("the record is stored", func() bool { return r.outcome(outcomeStored) == before+1 })
			} else if r.outcome(outcomeStored) != before {
				t.Error("something was stored")
			}
		})
	}
}

// A stream ends behind a message when it is old, and at once when the server
// stops.
func TestReceiverEndsStreams(t *testing.T) {
	r := newRig(t, WriterOptions{})
	r.run()
	_, old := r.serve(nil, ReceiverOptions{StreamAge: time.Nanosecond, Now: time.Now})
	stream := open(t, old, nil)
	if err := stream.Send(&alsv3.StreamAccessLogsMessage{Identifier: identifier("edge", "e"), LogEntries: plain(entry(t, "plain_200.json", &accesslogv3.TCPAccessLogEntry{}))}); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&alsv3.StreamAccessLogsResponse{}); err != nil {
		t.Fatal(err)
	}
	r.wait("the record is stored", func() bool { return r.db.stored() == 1 })

	receiver, address := r.serve(nil, ReceiverOptions{})
	stream = open(t, address, nil)
	if err := stream.Send(&alsv3.StreamAccessLogsMessage{Identifier: identifier("edge", "e")}); err != nil {
		t.Fatal(err)
	}
	receiver.Drain()
	receiver.Drain()
	if err := stream.RecvMsg(&alsv3.StreamAccessLogsResponse{}); err != nil {
		t.Fatal(err)
	}
}

// What hangs at the database does not hold up the stream.
func TestReceiverNeverWaits(t *testing.T) {
	r := newRig(t, WriterOptions{Queue: 100, Batch: 10, Timeout: time.Hour})
	r.db.hang = true
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.w.Run(ctx) }()
	_, address := r.serve(nil, ReceiverOptions{})
	stream := open(t, address, nil)
	e := entry(t, "plain_200.json", &accesslogv3.TCPAccessLogEntry{})
	var many []*accesslogv3.TCPAccessLogEntry
	for range 200 {
		many = append(many, e)
	}
	for i := range 100 {
		m := &alsv3.StreamAccessLogsMessage{LogEntries: plain(many...)}
		if i == 0 {
			m.Identifier = identifier("edge", "e")
		}
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if dropped := r.outcome(outcomeDropped); dropped < 20_000-110 {
		t.Errorf("%d of 20000 were dropped", dropped)
	}
	cancel()
	<-done
}
