package authz

import (
	"context"
	"sync/atomic"
	"time"
)

// gateWait is how long a Check waits for a place at most, and gateStep how often
// it looks.
const (
	gateWait = 20 * time.Millisecond
	gateStep = 5 * time.Millisecond
)

// gate bounds the Checks under way, and with them memory, whatever comes and
// however slow everything behind is. It is far above what a healthy process
// has under way: those who wait for the key manager are bounded by the caches
// before, so that they do not take the place of those who need not wait. Its
// places are spread over cells like a counter's.
type gate struct {
	each    int64 // places of a cell
	waiting atomic.Int64
	parts   [cells]struct {
		n atomic.Int64
		_ [56]byte
	}
}

func newGate(limit int) *gate { return &gate{each: int64(max(1, (limit+cells-1)/cells))} }

// enter takes a place. It reports false if there is none for a moment, or if ctx
// ends: nobody waits for that answer any more.
func (g *gate) enter(ctx context.Context) (cell int, ok bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	if cell, ok = g.try(); ok {
		return cell, true
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.each*cells {
		return 0, false
	}
	tick := time.NewTicker(gateStep)
	defer tick.Stop()
	for range gateWait / gateStep {
		select {
		case <-ctx.Done():
			return 0, false
		case <-tick.C:
		}
		if cell, ok = g.try(); ok {
			return cell, true
		}
	}
	return 0, false
}

func (g *gate) try() (cell int, ok bool) {
	first := anyCell()
	for i := range cells {
		cell = (first + i) % cells
		if g.parts[cell].n.Add(1) <= g.each {
			return cell, true
		}
		g.parts[cell].n.Add(-1)
	}
	return 0, false
}

func (g *gate) leave(cell int) { g.parts[cell].n.Add(-1) }

// inside returns the number of places taken.
func (g *gate) inside() (n int64) {
	for i := range g.parts {
		n += g.parts[i].n.Load()
	}
	return n
}
