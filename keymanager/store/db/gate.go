package db

import (
	"context"
	"errors"
	"time"
)

// gate keeps some connections for what is urgent. Who is not waits before it,
// a short while, so that more than the pool can serve is refused soon and
// nobody queues before those who are.
type gate struct {
	rank    func(context.Context) int
	asked   chan struct{} // all but the one of rank 2: what others can ask for; nil = all
	normal  chan struct{} // all but the reserved connections
	patient chan struct{} // half of those
}

// gateWait is how long somebody waits to be let in.
const gateWait = 500 * time.Millisecond

var errBusy = errors.New("all connections that this may use are busy")

// newGate returns the gate of a pool: a quarter of its connections is reserved,
// one of them for rank 2. A pool of very few has nothing to reserve.
func newGate(conns int, rank func(context.Context) int) *gate {
	normal := conns - conns/4
	g := &gate{rank: rank, normal: make(chan struct{}, normal), patient: make(chan struct{}, (normal+1)/2)}
	if conns-normal > 1 {
		g.asked = make(chan struct{}, conns-1)
	}
	return g
}

// enter waits for a place, and returns how to give it back.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	rank := 0
	if g.rank != nil {
		rank = g.rank(ctx)
	}
	var places []chan struct{} // the narrowest first
	switch {
	case rank < 0:
		places = append(places, g.patient, g.normal)
	case rank == 0:
		places = append(places, g.normal)
	}
	if rank < 2 && g.asked != nil {
		places = append(places, g.asked)
	}
	for i, place := range places {
		if err := take(ctx, place); err != nil {
			release(places[:i])
			return nil, err
		}
	}
	return func() { release(places) }, nil
}

func release(places []chan struct{}) {
	for _, place := range places {
		<-place
	}
}

func take(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(gateWait)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return nil
	case <-timer.C:
		return unavailable(errBusy)
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}
