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
	normal  chan struct{} // all but the reserved connections
	patient chan struct{} // half of those
}

// gateWait is how long somebody waits to be let in.
const gateWait = 500 * time.Millisecond

var errBusy = errors.New("all connections that this may use are busy")

// newGate returns the gate of a pool: a quarter of its connections is reserved.
// A pool of very few has nothing to reserve.
func newGate(conns int, rank func(context.Context) int) *gate {
	normal := conns - conns/4
	return &gate{rank: rank, normal: make(chan struct{}, normal), patient: make(chan struct{}, (normal+1)/2)}
}

// enter waits for a place, and returns how to give it back.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	rank := 0
	if g.rank != nil {
		rank = g.rank(ctx)
	}
	if rank > 0 {
		return func() {}, nil
	}
	if rank == 0 {
		if err := take(ctx, g.normal); err != nil {
			return nil, err
		}
		return func() { <-g.normal }, nil
	}
	if err := take(ctx, g.patient); err != nil {
		return nil, err
	}
	if err := take(ctx, g.normal); err != nil {
		<-g.patient
		return nil, err
	}
	return func() { <-g.normal; <-g.patient }, nil
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
