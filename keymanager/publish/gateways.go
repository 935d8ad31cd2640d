package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tollgate/keymanager"
)

// GatewaysOptions of NewGateways.
type GatewaysOptions struct {
	Now func() time.Time
	// Silence is how long a part may say nothing before it counts as gone;
	// 0 = 5 s.
	Silence time.Duration
}

// Gateways implements keymanager.Gateways: it keeps the last report of every
// gateway part that reports here, and lets others wait for them.
type Gateways struct {
	opts GatewaysOptions

	mu      sync.Mutex
	parts   map[part]keymanager.GatewayState
	changed chan struct{} // closed and replaced when a report says something new
}

// part names a gateway part.
type part struct {
	kind keymanager.GatewayKind
	id   string
}

// NewGateways returns a Gateways that knows no part.
func NewGateways(o GatewaysOptions) (*Gateways, error) {
	if o.Now == nil || o.Silence < 0 {
		return nil, errors.New("publish: Now is required, and Silence must not be negative")
	}
	setDefault(&o.Silence, 5*time.Second)
	return &Gateways{opts: o, parts: map[part]keymanager.GatewayState{}, changed: make(chan struct{})}, nil
}

// Limits of a report, which may come from afar.
const (
	maxReportID = 200
	maxNodes    = 10_000
)

// Report implements keymanager.Gateways.
func (g *Gateways) Report(ctx context.Context, s keymanager.GatewayState) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var wrong []keymanager.FieldError
	if s.Kind != keymanager.GatewayAuthz && s.Kind != keymanager.GatewayXDS {
		wrong = append(wrong, keymanager.FieldError{Path: "/kind", Detail: "must be authz or xds"})
	}
	if s.ID == "" || len(s.ID) > maxReportID {
		wrong = append(wrong, keymanager.FieldError{Path: "/id", Detail: fmt.Sprintf("must be 1 to %d bytes", maxReportID)})
	}
	if len(s.Nodes) > maxNodes {
		wrong = append(wrong, keymanager.FieldError{Path: "/nodes", Detail: fmt.Sprintf("must be at most %d", maxNodes)})
	}
	if err := keymanager.Invalid("gateway report", wrong); err != nil {
		return err
	}
	s = clone(s)
	g.mu.Lock()
	defer g.mu.Unlock()
	s.At = g.opts.Now()
	g.parts[part{s.Kind, s.ID}] = s
	g.wake() // a waiter looks at a few positions: cheaper than to compare all of a report
	return nil
}

func (g *Gateways) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// States returns the last report of every part that is not gone, by kind, group
// and id. They are the caller's.
func (g *Gateways) States() []keymanager.GatewayState {
	g.mu.Lock()
	g.sweep()
	out := make([]keymanager.GatewayState, 0, len(g.parts))
	for _, s := range g.parts {
		out = append(out, clone(s))
	}
	g.mu.Unlock()
	slices.SortFunc(out, func(a, b keymanager.GatewayState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// sweep forgets the parts that are gone, and returns how long it takes until
// the next one may be.
func (g *Gateways) sweep() time.Duration {
	now, next := g.opts.Now(), g.opts.Silence
	for p, s := range g.parts {
		left := s.At.Add(g.opts.Silence).Sub(now)
		if left < 0 {
			delete(g.parts, p)
			continue
		}
		next = min(next, left)
	}
	return next
}

// Wait returns nil when every part that is known here and not gone has
// confirmed pos, and every Envoy connected to it has acknowledged it: at once
// when there are none. The zero Position waits for nothing. When ctx ends first
// it returns a KindUnavailable error that names who is missing, whose cause is
// that of ctx.
func (g *Gateways) Wait(ctx context.Context, pos keymanager.Position) error {
	if pos == (keymanager.Position{}) {
		return nil
	}
	for {
		g.mu.Lock()
		next := g.sweep()
		missing := g.missing(pos)
		changed := g.changed
		g.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		gone := time.NewTimer(next + time.Millisecond)
		select {
		case <-changed:
			gone.Stop()
		case <-gone.C:
		case <-ctx.Done():
			gone.Stop()
			return &keymanager.Error{Kind: keymanager.KindUnavailable,
				Detail: "not yet confirmed by " + strings.Join(missing, ", "), Err: ctx.Err()}
		}
	}
}

// missing names who has not confirmed pos.
func (g *Gateways) missing(pos keymanager.Position) []string {
	var out []string
	for p, s := range g.parts {
		if !s.Confirmed.Reached(pos) {
			out = append(out, fmt.Sprintf("%s %q", p.kind, p.id))
		}
		for i := range s.Nodes {
			if n := &s.Nodes[i]; n.Connected && !n.Acknowledged.Reached(pos) {
				out = append(out, fmt.Sprintf("envoy %q", n.ID))
			}
		}
	}
	slices.Sort(out)
	return out
}

// clone copies a state, so that neither side can change what the other holds.
func clone(s keymanager.GatewayState) keymanager.GatewayState {
	s.Rejected, s.Nodes = slices.Clone(s.Rejected), slices.Clone(s.Nodes)
	for i := range s.Nodes {
		s.Nodes[i].Rejected = slices.Clone(s.Nodes[i].Rejected)
	}
	return s
}
