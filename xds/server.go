package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	deltav3 "github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"tollgate/keymanager"
)

// Server serves the aggregated discovery service, delta protocol only.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opts    Options
	groups  map[string]*group
	metrics *metrics
	delta   deltav3.Server
	stop    context.CancelFunc
	stated  chan struct{}
	heard   atomic.Pointer[time.Time] // when the catalog was, by the monotonic clock; nil = never
	large   chan struct{}
	firsts  chan struct{}

	snapshot []*keymanager.API // being received; belongs to receive

	audit   *audit
	limits  *limiter
	mu      sync.Mutex
	streams map[int64]*session
	certs   *certificates
}

// New makes a Server from o, with the content that needs no catalog.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	s := &Server{
		opts: o, groups: map[string]*group{}, streams: map[int64]*session{}, stated: make(chan struct{}, 1),
		large: make(chan struct{}, largeSends), firsts: make(chan struct{}, firstTurns), metrics: m, audit: newAudit(o.Logger, o.Now), limits: newLimiter(o.StreamRate, o.StreamBurst, o.Now),
	}
	s.certs = newCertificates(nil, o.Certificates, o.Now())
	s.certs.log(nil, o.Logger, m)
	for i := range o.Groups {
		g, err := newGroup(&o.Groups[i], &s.opts, m, s.stated, s.certs)
		if err != nil {
			return nil, fmt.Errorf("xds: group %q: %w", o.Groups[i].Name, err)
		}
		s.groups[g.Name] = g
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.delta = deltav3.NewServer(ctx, s, callbacks{s}, deltav3.WithLogger(quiet{}))
	return s, nil
}

// ServerOptions are the options of the gRPC server that Envoys connect to. c has
// the server's certificate and the authorities of the Envoys'
// (tls.Config.ClientCAs); TLS 1.3 and a verified client certificate are asked
// for in any case. With nil the server speaks clear text, and only Envoys on a
// loopback address or a Unix socket are served.
//
// A connection ends after 10 to 20 minutes and a grace of 2: several servers
// behind one address get their share, also after one of them was away. A first
// response holds every resource of a kind: Envoy takes 256 MiB.
func ServerOptions(c *tls.Config) []grpc.ServerOption {
	out := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.ConnectionTimeout(10 * time.Second), // with the handshake: also who says nothing holds up the end
		grpc.MaxRecvMsgSize(16 << 20),            // a reconnect names every resource
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.StaticStreamWindowSize(requestWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxConcurrentStreams(16),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 5 * time.Second,
			// grpc changes it by up to 10 % for each connection.
			MaxConnectionAge:      rand.N(7*time.Minute) + 11*time.Minute, //nolint:gosec // nothing secret: it spreads reconnections
			MaxConnectionAgeGrace: 2 * time.Minute,
		}),
	}
	if c != nil {
		out = append(out, grpc.Creds(credentials.NewTLS(mutual(c))))
	}
	return out
}

// mutual asks for TLS 1.3 and a client certificate, whatever c says; also if c
// is exchanged while it serves.
func mutual(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion, c.ClientAuth = tls.VersionTLS13, tls.RequireAndVerifyClientCert
	if next := c.GetConfigForClient; next != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := next(hello)
			if c == nil || err != nil {
				return nil, err
			}
			return mutual(c), nil
		}
	}
	return c
}

// Register adds the aggregated discovery service to r; nothing else of the
// protocol is served.
func (s *Server) Register(r *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// Ready says what is missing, nil when Envoys can be served. A catalog that has
// been lost is not missing: what it said last is served on.
func (s *Server) Ready() error {
	for _, g := range s.groups {
		select {
		case <-g.loaded:
		default:
			return fmt.Errorf("the catalog is not loaded")
		}
	}
	return nil
}

// DeltaAggregatedResources implements the service.
func (s *Server) DeltaAggregatedResources(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.delta.DeltaStreamHandler(&paced{AggregatedDiscoveryService_DeltaAggregatedResourcesServer: st, turns: s.large, firsts: s.firsts}, resource.AnyType)
}

func (l *changeLog) open(st *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st.opened = l.now()
	l.streams[st.id] = st
	l.wake()
}

func (l *changeLog) close(st *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, st.id)
	for k := range kinds {
		st.feeds[k].ch = nil
	}
	for _, t := range st.timers {
		t.Stop()
	}
	l.forgetRemoved()
	l.wake()
}

// quiet drops the library's log: at debug level it prints whole resources.
type quiet struct{}

// Debugf implements log.Logger.
func (quiet) Debugf(string, ...any) {}

// Infof implements log.Logger.
func (quiet) Infof(string, ...any) {}

// Warnf implements log.Logger.
func (quiet) Warnf(string, ...any) {}

// Errorf implements log.Logger.
func (quiet) Errorf(string, ...any) {}
