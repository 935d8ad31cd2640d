package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
)

// tap listens to the streams of xds: what is sent to each node, and how long it
// takes until that is acknowledged. It changes nothing.
type tap struct {
	mu    sync.Mutex
	nodes map[string]*tapped
}

// tapped is one stream: when its responses were sent and acknowledged, in order.
// An acknowledgement can be heard of before what it acknowledges.
type tapped struct {
	bytes         int
	sent, arrived []time.Time
}

type tappedKey struct{}

// TagRPC implements stats.Handler.
func (t *tap) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, tappedKey{}, &tapped{})
}

// HandleRPC implements stats.Handler.
func (t *tap) HandleRPC(ctx context.Context, event stats.RPCStats) {
	s, ok := ctx.Value(tappedKey{}).(*tapped)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *stats.OutPayload:
		s.bytes += e.Length
		s.sent = append(s.sent, e.SentTime)
	case *stats.InPayload:
		req, ok := e.Payload.(*discoveryv3.DeltaDiscoveryRequest)
		if ok && req.GetNode().GetId() != "" {
			t.nodes[req.GetNode().GetId()] = s
		}
		if ok && req.GetResponseNonce() != "" {
			s.arrived = append(s.arrived, e.RecvTime)
		}
	}
}

// TagConn implements stats.Handler.
func (t *tap) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (t *tap) HandleConn(context.Context, stats.ConnStats) {}

// cut waits until every node has acknowledged what it was sent, returns what
// each was sent in bytes and the times of acknowledgement of one of them in
// milliseconds, and begins anew.
func (t *tap) cut(ctx context.Context, node string) (bytes map[string]int, acks []float64, err error) {
	for t.open() {
		select {
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	bytes = map[string]int{}
	for id, s := range t.nodes {
		bytes[id] = s.bytes
		for i := range s.sent {
			if id == node {
				acks = append(acks, max(0, float64(s.arrived[i].Sub(s.sent[i]))/1e6))
			}
		}
		s.bytes, s.sent, s.arrived = 0, nil, nil
	}
	return bytes, acks, nil
}

func (t *tap) open() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.nodes {
		if len(s.sent) != len(s.arrived) {
			return true
		}
	}
	return false
}

// The types that an Envoy of ours asks for over its stream.
var resourceTypes = []string{
	"type.googleapis.com/envoy.config.cluster.v3.Cluster", "type.googleapis.com/envoy.config.listener.v3.Listener",
	"type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
}

// follow connects n simulated gateways to the xds at a socket. They acknowledge
// everything, until ctx ends. It returns when each has had its first scopes.
func (g *gateway) follow(ctx context.Context, socket string, n int) error {
	first := make(chan error, n)
	for i := range n { // one at a time: the first push is not what is measured
		conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)), grpc.WithInitialWindowSize(16<<20))
		if err != nil {
			return err
		}
		g.tasks.Go(func() error {
			defer conn.Close()
			err := simulate(ctx, conn, "simulated-"+strconv.Itoa(i), first)
			if ctx.Err() != nil {
				return nil
			}
			return err
		})
		select {
		case err := <-first:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Minute):
			return errors.New("a simulated gateway gets no configuration")
		}
	}
	return nil
}

// simulate is one gateway. first gets nil with the first scopes, or what ended
// it before.
func simulate(ctx context.Context, conn *grpc.ClientConn, id string, first chan<- error) error {
	had := false
	err := func() error {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err != nil {
			return err
		}
		node := simulatedNode(id)
		for _, url := range resourceTypes {
			if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: url}); err != nil {
				return err
			}
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				return err
			}
			if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}); err != nil {
				return err
			}
			if m.GetTypeUrl() == resourceTypes[2] && !had {
				had = true
				first <- nil
			}
		}
	}()
	if !had {
		first <- fmt.Errorf("%s: %w", id, err)
	}
	return err
}

func simulatedNode(id string) *corev3.Node {
	return &corev3.Node{Id: id, Cluster: "bench", UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
		UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}}}
}
