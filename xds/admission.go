package xds

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// identity is who has opened a stream.
type identity struct {
	peer keymanager.Peer // of the certificate; the zero Peer in clear text
	from string          // the address, for logs
}

// String names it in logs.
func (i identity) String() string {
	if i.peer == (keymanager.Peer{}) {
		return "this machine"
	}
	return i.peer.String()
}

// identify reads who stands at the other end: an Envoy by its verified
// certificate, or anybody on this machine.
func (s *Server) identify(ctx context.Context) (identity, error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return identity{}, status.Error(codes.PermissionDenied, "nobody is at the other end")
	}
	who := identity{from: p.Addr.String()}
	info, encrypted := p.AuthInfo.(credentials.TLSInfo)
	if !encrypted {
		if !keymanager.SameMachine(p.Addr) {
			return who, status.Error(codes.PermissionDenied, "in clear text only this machine is served")
		}
		return who, nil
	}
	id, err := keymanager.VerifiedPeer(s.opts.TrustDomain, info.State)
	if err != nil {
		return who, status.Error(codes.PermissionDenied, err.Error())
	}
	who.peer = id
	if id.Role != keymanager.RoleGateway {
		return who, status.Errorf(codes.PermissionDenied, "the certificate is of %s, not of a gateway", id)
	}
	return who, nil
}

// session is a stream as the library knows it.
type session struct {
	identity
	paced  *paced
	stream *stream // nil: no first request yet
	// has is what the Envoy says it has, out of the request that is under way: the
	// library would keep it as long as the stream lasts.
	has map[string]string
}

// callbacks is what the library tells about streams.
type callbacks struct{ *Server }

// OnDeltaStreamOpen refuses who is not an Envoy of ours, and streams before the
// catalog is loaded: an empty answer would make Envoy delete every listener.
func (s callbacks) OnDeltaStreamOpen(ctx context.Context, id int64, _ string) error {
	who, err := s.identify(ctx)
	if err == nil && who.peer != (keymanager.Peer{}) && !s.limits.allow(who.String()) {
		err = tooMany(who.String())
	}
	if err == nil {
		if missing := s.Ready(); missing != nil {
			err = status.Error(codes.Unavailable, missing.Error())
		}
	}
	if err != nil {
		s.audit.refused(who, "", "", err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := ctx.Value(pacedKey{}).(*paced)
	s.streams[id] = &session{identity: who, paced: p}
	return nil
}

// OnDeltaStreamClosed forgets the stream. All its watches are cancelled.
func (s callbacks) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	s.mu.Lock()
	ses := s.streams[id]
	delete(s.streams, id)
	s.mu.Unlock()
	if ses == nil || ses.stream == nil {
		return
	}
	st := ses.stream
	st.log.close(st)
	s.opts.Logger.Info("Envoy disconnected", "group", st.log.group, "node", st.node, "peer", ses.String(), "stream", id,
		"lasted", s.opts.Now().Sub(st.opened).Round(time.Millisecond))
}

// OnStreamDeltaRequest admits the stream by its first request, of whatever
// kind, and stamps its id into every request: the watch is told nothing else.
func (s callbacks) OnStreamDeltaRequest(id int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	ses := s.session(id)
	if ses == nil {
		return status.Error(codes.PermissionDenied, "a stream that was not admitted")
	}
	if ses.stream == nil {
		if err := s.admit(id, ses, req.GetNode()); err != nil {
			s.audit.refused(ses.identity, req.GetNode().GetCluster(), req.GetNode().GetId(), err)
			return err
		}
	}
	req.Node = &corev3.Node{Id: strconv.FormatInt(id, 10)}
	ses.has, req.InitialResourceVersions = req.GetInitialResourceVersions(), nil
	return nil
}

// OnStreamDeltaResponse notes the nonce under which a response goes out.
func (s callbacks) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	if k, ok := kindOf(r.GetTypeUrl()); ok {
		st := s.session(id).stream
		if large := st.log.sending(st, k, r.GetNonce(), proto.Size(r)); large != nil {
			st.paced.large = large
		}
	}
}

func (s *Server) session(id int64) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// maxNodeName is how long the name of a node or of a group may be, in bytes.
const maxNodeName = 256

// admit checks who is calling: the node and the group of its certificate, a
// group of ours, and an Envoy that is new enough to be safe. Nothing is sent
// before.
func (s *Server) admit(id int64, ses *session, n *corev3.Node) error {
	if n.GetId() == "" {
		return status.Error(codes.InvalidArgument, "the first request names no node")
	}
	if len(n.GetId()) > maxNodeName || len(n.GetCluster()) > maxNodeName {
		return status.Errorf(codes.InvalidArgument, "the names of node and group are longer than %d bytes", maxNodeName)
	}
	if p := ses.peer; p == (keymanager.Peer{}) {
		if !s.limits.allow("node/" + n.GetId()) {
			return tooMany(n.GetId())
		}
	} else if n.GetId() != p.Name || n.GetCluster() != p.Group {
		err := status.Errorf(codes.PermissionDenied, "node %q of group %q has the certificate of node %q of group %q",
			n.GetId(), n.GetCluster(), p.Name, p.Group)
		if g := s.groups[p.Group]; g != nil {
			g.turnAway(p.Name, "", status.Convert(err).Message())
		}
		return err
	}
	g := s.groups[n.GetCluster()]
	if g == nil {
		return status.Errorf(codes.NotFound, "node %q: no gateway group %q here", n.GetId(), n.GetCluster())
	}
	v := n.GetUserAgentBuildVersion().GetVersion()
	version := fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	if v == nil || olderThan(version, envoy.MinVersion) {
		err := status.Errorf(codes.FailedPrecondition, "node %q runs Envoy %s, want %s or newer", n.GetId(), version, envoy.MinVersion)
		g.turnAway(n.GetId(), version, status.Convert(err).Message())
		return err
	}
	st := &stream{id: id, log: g.log, node: n.GetId(), version: version, paced: ses.paced}
	g.admitted(n.GetId())
	g.log.open(st)
	ses.stream = st
	s.opts.Logger.Info("Envoy connected", "group", g.Name, "node", st.node, "peer", ses.String(), "from", ses.from, "stream", id, "version", version)
	return nil
}

func tooMany(who string) error {
	return status.Errorf(codes.ResourceExhausted, "%s opens too many streams", who)
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
