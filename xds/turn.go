package xds

import (
	"context"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

const (
	// An Envoy that comes back names everything that it has, which costs a few
	// hundred bytes for each resource until it has been compared. firstTurns of
	// them do so at a time; the others' requests are not read yet, and flow control
	// keeps them where they are.
	firstTurns = 4
	// firstWait is how long a stream keeps its turn, also if nothing comes.
	firstWait = 3 * time.Second
	// requestWindow is what may come of a stream before it is read (the least that
	// gRPC takes), connWindow of a connection. gRPC would let both grow to 16 MB.
	requestWindow = 64 << 10
	connWindow    = 1 << 20
)

// Recv implements stream.DeltaStream. The first request waits for its turn, which
// lasts until the tables are compared (see CreateDeltaWatch), if it names much.
func (p *paced) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	first := p.compared == nil
	if first {
		if err := p.takeTurn(); err != nil {
			return nil, err
		}
	}
	req, err := p.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Recv()
	if err != nil || first && len(req.GetInitialResourceVersions()) < largeResponse {
		p.compared()
	}
	return req, err
}

// takeTurn waits until few enough others are at their first requests. The turn
// ends with compared, with the stream, or after firstWait.
func (p *paced) takeTurn() error {
	ctx := p.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Context()
	select {
	case p.firsts <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	over := sync.OnceFunc(func() { <-p.firsts })
	late := time.AfterFunc(firstWait, over)
	ended := context.AfterFunc(ctx, over)
	p.compared = func() {
		late.Stop()
		ended()
		over()
	}
	return nil
}
