package usage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// ReceiverOptions of NewReceiver.
type ReceiverOptions struct {
	Writer *Writer // takes the records; required
	// TrustDomain is that of the gateways' certificates. Without it callers with
	// TLS are refused.
	TrustDomain string
	Now         func() time.Time // required
	Logger      *slog.Logger     // nil: no log
	// StreamAge is how long a stream lasts: then Envoy opens another one, maybe
	// to another key manager. 0 = 4 min.
	StreamAge time.Duration
}

// Receiver implements envoy.service.accesslog.v3.AccessLogService.
type Receiver struct {
	alsv3.UnimplementedAccessLogServiceServer
	opts  ReceiverOptions
	lines *rate.Limiter // of what Envoys do wrong

	drain    chan struct{}
	drainOne sync.Once
}

// NewReceiver returns a Receiver.
func NewReceiver(o ReceiverOptions) (*Receiver, error) {
	if o.Writer == nil || o.Now == nil {
		return nil, errors.New("usage: a Receiver needs Writer and Now")
	}
	if o.StreamAge < 0 {
		return nil, errors.New("usage: StreamAge is negative")
	}
	if o.StreamAge == 0 {
		o.StreamAge = 4 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Receiver{opts: o, lines: rate.NewLimiter(rate.Every(10*time.Second), 5), drain: make(chan struct{})}, nil
}

// Register adds the service to a server.
func (r *Receiver) Register(s grpc.ServiceRegistrar) { alsv3.RegisterAccessLogServiceServer(s, r) }

// Drain ends all streams. Envoy opens new ones when it has something to tell.
func (r *Receiver) Drain() { r.drainOne.Do(func() { close(r.drain) }) }

// StreamAccessLogs implements the service: it takes what comes as fast as it
// comes. An entry that cannot be understood is dropped alone.
func (r *Receiver) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	ctx := stream.Context()
	who, err := identify(ctx, r.opts.TrustDomain)
	if err != nil {
		return r.refused(err)
	}
	r.opts.Writer.streams.Inc()
	defer r.opts.Writer.streams.Dec()
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				r.opts.Logger.ErrorContext(ctx, "panic in a stream of usage records", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				ended <- status.Error(codes.Internal, "internal error")
			}
		}()
		ended <- r.receive(stream, who)
	}()
	select {
	case <-r.drain: // returning ends the stream, and so Recv
		return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
	case err = <-ended:
	}
	if err != nil {
		if code := status.Code(err); code == codes.PermissionDenied || code == codes.InvalidArgument {
			return r.refused(err)
		}
		return err
	}
	return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
}

// receive reads a stream to its end. Its age is looked at behind a message: the
// next one is a while away then, and nothing is lost in between.
func (r *Receiver) receive(stream alsv3.AccessLogService_StreamAccessLogsServer, who keymanager.Peer) error {
	begun := r.opts.Now()
	var from keymanager.Peer
	for first := true; ; first = false {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first {
			if from, err = node(who, m.GetIdentifier().GetNode()); err != nil {
				return err
			}
		}
		r.take(m, from)
		if r.opts.Now().Sub(begun) > r.opts.StreamAge {
			return nil
		}
	}
}

// maxEntries is how many entries of one message are read. Envoy sends what fits
// into 64 KiB.
const maxEntries = 10_000

// take hands the entries of a message to the writer.
func (r *Receiver) take(m *alsv3.StreamAccessLogsMessage, from keymanager.Peer) {
	http, plain := m.GetHttpLogs().GetLogEntry(), m.GetTcpLogs().GetLogEntry()
	if n := len(http) + len(plain); n > maxEntries {
		r.malformed(from, n-maxEntries, errors.New("a message has too many of them"))
		http = http[:min(len(http), maxEntries)]
		plain = plain[:min(len(plain), maxEntries-len(http))]
	}
	now := r.opts.Now()
	for _, e := range http {
		if ended(e.GetCommonProperties()) {
			rec, err := httpRecord(e)
			r.put(rec, err, from, now)
		}
	}
	for _, e := range plain {
		if ended(e.GetCommonProperties()) {
			rec, err := plainRecord(e)
			r.put(rec, err, from, now)
		}
	}
}

// ended reports whether an entry is that of the end of a call, of which there
// is one: Envoy can also tell of its beginning and of those that last.
func ended(c *accesslogv3.AccessLogCommon) bool {
	switch c.GetAccessLogType() {
	case accesslogv3.AccessLogType_NotSet, accesslogv3.AccessLogType_DownstreamEnd:
		return !c.GetIntermediateLogEntry() //nolint:staticcheck // what an Envoy says that does not know the type
	}
	return false
}

// A gateway whose clock is further off than that is not believed what time it
// is.
const (
	maxPast   = 48 * time.Hour
	maxFuture = 10 * time.Minute
)

func (r *Receiver) put(rec *store.UsageRecord, err error, from keymanager.Peer, now time.Time) {
	if err != nil {
		r.malformed(from, 1, err)
		return
	}
	rec.Gateway, rec.Group = from.Name, from.Group
	if rec.At.Before(now.Add(-maxPast)) || rec.At.After(now.Add(maxFuture)) {
		rec.At = now
	}
	r.opts.Writer.put(rec)
}

func (r *Receiver) malformed(from keymanager.Peer, n int, err error) {
	r.opts.Writer.count(outcomeMalformed, n)
	if r.lines.AllowN(r.opts.Now(), 1) {
		r.opts.Logger.Warn("a usage record cannot be understood and is dropped", "gateway", from.Name, "group", from.Group, "records", n, "error", err)
	}
}

func (r *Receiver) refused(err error) error {
	if r.lines.AllowN(r.opts.Now(), 1) {
		r.opts.Logger.Warn("a stream of usage records was refused", "error", err)
	}
	return err
}
