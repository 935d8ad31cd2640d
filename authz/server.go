package authz

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"tollgate/authz/apis"
	"tollgate/authz/revoked"
	"tollgate/keymanager"
)

// Defaults of Options.
const (
	DefaultMaxStale             = 300 * time.Second
	DefaultCatalogWait          = 100 * time.Millisecond
	DefaultRealm                = "tollgate"
	DefaultStreamWorkers        = 64
	DefaultMaxConcurrentStreams = 256
	DefaultMaxConcurrentChecks  = 4096
	DefaultWatchdog             = 10 * time.Second

	// maxCheck bounds a CheckRequest. Envoy's own limit on headers is 32 KiB.
	maxCheck = 256 << 10
)

// Options of New. The contracts, Tags, Now, Logger and ID are required.
type Options struct {
	ID    string // of this instance, in reports
	Group string // of gateways; a route of another group is not decided. "" = not checked

	// Validator is asked about credentials, with caches before it; Uncached
	// without any, for APIs whose verdicts must not be cached. With caching
	// switched off both are the same. A method Probe() of Validator is called
	// by the watchdog: it takes the locks that an answer from memory takes, and
	// waits for nobody.
	Validator, Uncached keymanager.Validator
	Catalog             keymanager.Catalog
	Revocations         keymanager.Revocations
	Gateways            keymanager.Gateways
	Tags                Tags

	// MaxStale is how long authz decides from what it knows without a word from
	// the key manager; then every answer is 503. Contact does not count as lost
	// before 3 s. An API's own MaxStale goes before it.
	MaxStale time.Duration
	// CatalogWait is how long a request waits for the catalog when its route is
	// newer.
	CatalogWait time.Duration
	// MaxDeadTokens is the number of revoked tokens remembered one by one.
	MaxDeadTokens int
	Realm         string // of challenges (RFC 9110 section 11.5)

	StreamWorkers        uint32 // goroutines kept for calls
	MaxConcurrentStreams uint32 // of one connection of Envoy
	MaxConcurrentChecks  int    // of all connections: what is beyond is 503

	// TrustDomain of the certificates of callers from other machines (Remote).
	TrustDomain string

	// Watchdog is how long a probe of the decision path may last. Then OnHung
	// is called, and Run returns ErrHung: the process must end at once.
	Watchdog time.Duration
	OnHung   func()

	Now    func() time.Time
	Logger *slog.Logger
}

// Server is authz. It is a prometheus.Collector.
type Server struct {
	id, group   string
	validator   keymanager.Validator
	uncached    keymanager.Validator
	catalog     keymanager.Catalog
	revocations keymanager.Revocations
	gateways    keymanager.Gateways
	tags        Tags
	maxStale    time.Duration
	catalogWait time.Duration
	realm       string
	now         func() time.Time
	log         *slog.Logger

	options  Options
	watchdog time.Duration
	onHung   func()
	gate     *gate

	apis    *apis.Table
	revoked *revoked.Set
	contact contact
	record  *recorder
	replies replies
	retries atomic.Uint32

	health   *health.Server
	draining atomic.Bool
	grpc     func() *grpc.Server
	wake     chan struct{} // something changed that must be reported
}

// New returns a server that has not loaded anything yet: until Run has, every
// Check is answered with 503.
func New(o Options) (*Server, error) {
	switch {
	case o.Validator == nil || o.Uncached == nil || o.Catalog == nil || o.Revocations == nil || o.Gateways == nil:
		return nil, errors.New("authz: Validator, Uncached, Catalog, Revocations and Gateways are required")
	case o.Tags == nil || o.Now == nil || o.Logger == nil || o.ID == "":
		return nil, errors.New("authz: ID, Tags, Now and Logger are required")
	case o.MaxStale < 0 || o.CatalogWait < 0 || o.Watchdog < 0 || o.MaxConcurrentChecks < 0:
		return nil, errors.New("authz: MaxStale, CatalogWait, Watchdog and MaxConcurrentChecks must not be negative")
	}
	s := &Server{
		id: o.ID, group: o.Group,
		validator: o.Validator, uncached: o.Uncached,
		catalog: o.Catalog, revocations: o.Revocations, gateways: o.Gateways,
		tags:        o.Tags,
		maxStale:    cmp.Or(o.MaxStale, DefaultMaxStale),
		catalogWait: cmp.Or(o.CatalogWait, DefaultCatalogWait),
		realm:       cmp.Or(o.Realm, DefaultRealm),
		now:         o.Now,
		log:         o.Logger,
		options:     o,
		watchdog:    max(cmp.Or(o.Watchdog, DefaultWatchdog), watchdogTicks),
		onHung:      o.OnHung,
		gate:        newGate(cmp.Or(o.MaxConcurrentChecks, DefaultMaxConcurrentChecks)),
		apis:        apis.New(o.Logger),
		revoked:     revoked.New(o.MaxDeadTokens),
		contact:     contact{started: o.Now()},
		record:      newRecorder(o.Logger),
		replies:     replies{seed: maphash.MakeSeed()},
		health:      health.NewServer(),
		wake:        make(chan struct{}, 1),
	}
	s.setHealth(false)
	s.grpc = sync.OnceValue(func() *grpc.Server { return s.serverFor() })
	return s, nil
}

// GRPC returns the server of ext_authz and grpc.health.v1 for a Unix socket,
// always the same, for its owner to serve and to stop. It has goroutines from
// the first call on. Connections have no end: nothing is to be balanced, and
// whoever may open the socket may call.
func (s *Server) GRPC() *grpc.Server { return s.grpc() }

func (s *Server) serverFor(more ...grpc.ServerOption) *grpc.Server {
	o := &s.options
	g := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.NumStreamWorkers(cmp.Or(o.StreamWorkers, DefaultStreamWorkers)),
		grpc.MaxConcurrentStreams(cmp.Or(o.MaxConcurrentStreams, DefaultMaxConcurrentStreams)),
		grpc.MaxRecvMsgSize(maxCheck),
		grpc.ConnectionTimeout(10 * time.Second), // with the handshake: also who says nothing holds up the end
		// Envoy pings every 15 s, also without a call; more eager pings would
		// get it disconnected.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}, more...)...)
	g.RegisterService(&service, s)
	grpc_health_v1.RegisterHealthServer(g, s.health)
	return g
}

// Drain has grpc.health.v1 say NOT_SERVING from now on, so that Envoys on other
// machines send their Checks elsewhere. Those that come are answered.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.setHealth(false)
}

func (s *Server) setHealth(ready bool) {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if ready && !s.draining.Load() {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(serviceName, status)
}

// check answers one encoded CheckRequest: always with a response, since Envoy
// must be able to tell an error from a denial.
func (s *Server) check(ctx context.Context, message string) (answer *reply) {
	begun := s.now()
	var r Request
	defer func() {
		if recover() != nil { // its value may hold a credential
			s.log.Error("deciding a request panicked", "request_id", safeID(r.RequestID), "stack", string(debug.Stack()))
			s.record.panicked()
			answer = newReply(lastResort())
		}
	}()
	d := Decision{Reason: malformedCheck}
	cell, admitted := s.gate.enter(ctx)
	if admitted {
		defer s.gate.leave(cell)
	}
	switch {
	case !r.parse(message):
	case !admitted:
		d.Reason = overloaded
	default:
		d = s.decide(ctx, &r, begun, s.validator)
	}
	answer = s.answer(&r, &d)
	s.record.decided(ctx, &r, &d, s.now().Sub(begun))
	return answer
}

func (s *Server) answer(r *Request, d *Decision) *reply {
	if d.Reason.outcome() == outcomeOK {
		return s.replies.of(d)
	}
	return newReply(d.refusal(s.tell(r, d)))
}
