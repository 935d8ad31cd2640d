package xds

import (
	"context"
	"errors"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// askingStream is a stream whose next request is in ch.
type askingStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	ctx context.Context
	ch  chan *discoveryv3.DeltaDiscoveryRequest
}

func (s *askingStream) Context() context.Context { return s.ctx }

func (s *askingStream) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	select {
	case r := <-s.ch:
		return r, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// However many Envoys come back at once, firstTurns of them name what they have
// at a time. The next has its turn when one is compared, gone, new, or silent.
func TestFirstRequestsTakeTurns(t *testing.T) {
	turns, read := make(chan struct{}, firstTurns), make(chan *paced, 100)
	failed := make(chan error, 100)
	connect := func() (p *paced, s *askingStream, gone context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		s = &askingStream{ctx: ctx, ch: make(chan *discoveryv3.DeltaDiscoveryRequest, 1)}
		p = &paced{AggregatedDiscoveryService_DeltaAggregatedResourcesServer: s, firsts: turns}
		go func() {
			if _, err := p.Recv(); err != nil {
				failed <- err
				return
			}
			read <- p
		}()
		return p, s, cancel
	}
	large := &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{}}
	for _, it := range largeItems(largeResponse) {
		large.InitialResourceVersions[it.entry.name] = "1"
	}
	next := func() *paced {
		select {
		case p := <-read:
			return p
		case <-time.After(patience):
			t.Fatal("nobody has a turn")
			return nil
		}
	}
	freed := func() {
		for deadline := time.Now().Add(patience); len(turns) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d turns are never given back", len(turns))
			}
		}
	}

	var ends []context.CancelFunc
	for range 3 * firstTurns {
		_, s, gone := connect()
		s.ch <- large
		ends = append(ends, gone)
	}
	for range 3 * firstTurns {
		p := next()
		if n := len(turns); n > firstTurns {
			t.Fatalf("%d are compared at a time", n)
		}
		p.compared()
		p.compared() // once more takes nobody's turn
	}
	freed()

	_, s, gone := connect()
	s.ch <- &discoveryv3.DeltaDiscoveryRequest{} // a new one has nothing
	next()
	freed()
	ends = append(ends, gone)

	for range firstTurns + 1 { // they say nothing: the last waits for their time to be over
		_, silent, gone := connect()
		ends = append(ends, gone)
		s = silent
	}
	freed()
	s.ch <- large // which it still may
	next()

	for range 2 * firstTurns { // gone with a turn, or before
		_, _, gone := connect()
		gone()
	}
	for range 2 * firstTurns {
		select {
		case err := <-failed:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a stream that is gone still waits")
		}
	}
	for _, end := range ends {
		end()
	}
	freed()
}
