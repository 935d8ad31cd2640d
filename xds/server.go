package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	deltav3 "github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// Server serves the aggregated discovery service, delta protocol only.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opts   Options
	groups map[string]*group
	delta  deltav3.Server
	stop   context.CancelFunc
	stated chan struct{}
	heard  atomic.Int64 // of the catalog, Unix nanoseconds
	large  chan struct{}

	snapshot []*keymanager.API // being received; belongs to receive

	mu      sync.Mutex
	streams map[int64]*stream // nil value: no first request yet
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
		opts: o, groups: map[string]*group{}, streams: map[int64]*stream{}, stated: make(chan struct{}, 1),
		large: make(chan struct{}, largeSends),
	}
	for i := range o.Groups {
		g, err := newGroup(&o.Groups[i], &s.opts, m, s.stated)
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
		grpc.MaxRecvMsgSize(16 << 20), // a reconnect names every resource
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(16),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 5 * time.Second,
			// grpc changes it by up to 10 % for each connection.
			MaxConnectionAge: rand.N(7*time.Minute) + 11*time.Minute, MaxConnectionAgeGrace: 2 * time.Minute,
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
	return s.delta.DeltaStreamHandler(paced{st, s.large}, resource.AnyType)
}

// Envoys that come at once each cost a copy of everything: largeSends of them
// are served at a time. A response is large from largeResponse resources.
const (
	largeSends    = 4
	largeResponse = 1000
)

// paced is a stream that waits for its turn to send a large response.
type paced struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	large chan struct{}
}

// Send implements stream.DeltaStream.
func (p paced) Send(r *discoveryv3.DeltaDiscoveryResponse) error {
	if len(r.GetResources()) >= largeResponse {
		select {
		case p.large <- struct{}{}:
			defer func() { <-p.large }()
		case <-p.Context().Done():
			return p.Context().Err()
		}
	}
	return p.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Send(r)
}

// callbacks is what the library tells about streams.
type callbacks struct{ *Server }

// OnDeltaStreamOpen refuses streams before the catalog is loaded: an empty
// answer would make Envoy delete every listener.
func (s callbacks) OnDeltaStreamOpen(_ context.Context, id int64, _ string) error {
	if err := s.Ready(); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[id] = nil
	return nil
}

// OnDeltaStreamClosed forgets the stream. All its watches are cancelled.
func (s callbacks) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	s.mu.Lock()
	st := s.streams[id]
	delete(s.streams, id)
	s.mu.Unlock()
	if st != nil {
		st.log.close(st)
		s.opts.Logger.Info("Envoy disconnected", "group", st.log.group, "node", st.node)
	}
}

// OnStreamDeltaRequest admits the stream by its first request, of whatever
// kind, and stamps its id into every request: the watch is told nothing else.
func (s callbacks) OnStreamDeltaRequest(id int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	st := s.Server.stream(id)
	if st == nil {
		var err error
		if st, err = s.admit(id, req.GetNode()); err != nil {
			s.opts.Logger.Warn("stream refused", "error", err)
			return err
		}
		s.opts.Logger.Info("Envoy connected", "group", st.log.group, "node", st.node, "version", st.version)
	}
	req.Node = &corev3.Node{Id: strconv.FormatInt(id, 10)}
	return nil
}

// OnStreamDeltaResponse notes the nonce under which a response goes out.
func (s callbacks) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	if k, ok := kindOf(r.GetTypeUrl()); ok {
		st := s.Server.stream(id)
		st.log.sending(st, k, r.GetNonce(), proto.Size(r))
	}
}

func (s *Server) stream(id int64) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// admit checks who is calling: a node of a known group, and an Envoy that is
// new enough to be safe.
func (s *Server) admit(id int64, n *corev3.Node) (*stream, error) {
	if n == nil || n.GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the first request names no node")
	}
	g := s.groups[n.GetCluster()]
	if g == nil {
		return nil, status.Errorf(codes.NotFound, "node %q: no gateway group %q here", n.GetId(), n.GetCluster())
	}
	v := n.GetUserAgentBuildVersion().GetVersion()
	version := fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	if v == nil || olderThan(version, envoy.MinVersion) {
		return nil, status.Errorf(codes.FailedPrecondition, "node %q runs Envoy %s, want %s or newer", n.GetId(), version, envoy.MinVersion)
	}
	st := &stream{id: id, log: g.log, node: n.GetId(), version: version}
	g.log.open(st)
	s.mu.Lock()
	s.streams[id] = st
	s.mu.Unlock()
	return st, nil
}

// olderThan compares versions of three numbers.
func olderThan(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return false
}

func (l *changeLog) open(st *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
