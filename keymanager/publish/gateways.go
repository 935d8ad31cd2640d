package publish

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// GatewaysOptions of NewGateways.
type GatewaysOptions struct {
	Now func() time.Time
	// Silence is how long a part may say nothing before it counts as gone;
	// 0 = 5 s.
	Silence time.Duration
	// Remember is how long one that is gone is still listed; 0 = 1 h.
	Remember time.Duration
	// Shared is where the key managers of one database tell each other what is
	// reported to them; it needs Run. nil: this one is alone.
	Shared store.GatewayReports
	// ID names this key manager among those; required with Shared. Two with the
	// same ID are still told apart.
	ID string
	// Exchange is how often they do so when there is nothing new; 0 = 1 s.
	Exchange time.Duration
	Logger   *slog.Logger // nil discards
}

// Gateways implements keymanager.Gateways: it keeps the last report of every
// gateway part that reports here or to another key manager of the same
// database, and lets others wait for them. A report is taken without a look at
// the database.
type Gateways struct {
	opts GatewaysOptions

	mu      sync.Mutex
	parts   map[part]*reported
	changed chan struct{} // closed and replaced when there is something new
	others  others
	gone    map[part]keymanager.GatewayState
}

// part names a gateway part.
type part struct {
	kind keymanager.GatewayKind
	id   string
}

// reported is what a part reported here.
type reported struct {
	state keymanager.GatewayState
	told  bool // to the other key managers, as it is
	whole bool // they have its document too
}

// NewGateways returns a Gateways that knows no part.
func NewGateways(o GatewaysOptions) (*Gateways, error) {
	if o.Now == nil || o.Silence < 0 || o.Remember < 0 || o.Exchange < 0 {
		return nil, errors.New("publish: Now is required, and Silence, Remember and Exchange must not be negative")
	}
	if o.Shared != nil && o.ID == "" {
		return nil, errors.New("publish: Gateways that are shared need an ID")
	}
	o.Silence = cmp.Or(o.Silence, 5*time.Second)
	o.Remember = cmp.Or(o.Remember, time.Hour)
	o.Exchange = cmp.Or(o.Exchange, time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.ID += " " + rand.Text()
	return &Gateways{opts: o, parts: map[part]*reported{}, changed: make(chan struct{}), others: newOthers(o.Shared != nil), gone: map[part]keymanager.GatewayState{}}, nil
}

// Limits of a report, which may come from afar.
const (
	maxReportID = 200
	maxNodes    = 10_000
)

// maxGone is how many parts that are gone are listed at most.
const maxGone = 1000

// Report implements keymanager.Gateways.
func (g *Gateways) Report(ctx context.Context, s keymanager.GatewayState) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var wrong []keymanager.FieldError
	if s.Kind != keymanager.GatewayAuthz && s.Kind != keymanager.GatewayXDS {
		wrong = append(wrong, keymanager.FieldError{Path: "/kind", Detail: "must be authz or xds"})
	}
	if s.ID == "" || len(s.ID) > maxReportID || words(s.ID) != s.ID {
		wrong = append(wrong, keymanager.FieldError{Path: "/id", Detail: fmt.Sprintf("must be 1 to %d bytes of UTF-8, and none of them zero", maxReportID)})
	}
	if len(s.Nodes) > maxNodes {
		wrong = append(wrong, keymanager.FieldError{Path: "/nodes", Detail: fmt.Sprintf("must be at most %d", maxNodes)})
	}
	if err := keymanager.Invalid("gateway report", wrong); err != nil {
		return err
	}
	s = clone(s)
	readable(&s)
	g.mu.Lock()
	defer g.mu.Unlock()
	s.At = g.opts.Now()
	g.keep(s)
	g.wake() // a waiter looks at a few positions: cheaper than to compare all of a report
	return nil
}

func (g *Gateways) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// States returns the last report of every part, by kind, group and id. They are
// the caller's. What is reported to other key managers is up to two seconds old.
// Parts that are gone are listed as such for an hour, with a Lag until now and
// without Envoys: those are with another xds, or gone too.
func (g *Gateways) States() []keymanager.GatewayState {
	g.mu.Lock()
	g.sweep()
	out := make([]keymanager.GatewayState, 0, len(g.parts))
	for p, r := range g.parts {
		if o := g.others.parts[p]; o == nil || !o.state.At.After(r.state.At) {
			out = append(out, clone(r.state))
		}
	}
	for p, o := range g.others.parts {
		if r := g.parts[p]; r == nil || o.state.At.After(r.state.At) {
			out = append(out, clone(o.state))
		}
	}
	now := g.opts.Now()
	for p, s := range g.gone {
		if g.parts[p] == nil && g.others.parts[p] == nil {
			s.Phase, s.Lag, s.Nodes, s.Rejected = keymanager.PhaseGone, s.Lag+now.Sub(s.At), nil, nil
			out = append(out, s)
		}
	}
	g.mu.Unlock()
	slices.SortFunc(out, func(a, b keymanager.GatewayState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// sweep takes out the parts that are gone, and returns how long it takes until
// the next one may be.
func (g *Gateways) sweep() time.Duration {
	now, next := g.opts.Now(), g.opts.Silence
	for p, r := range g.parts {
		left := r.state.At.Add(g.opts.Silence).Sub(now)
		if left < 0 {
			delete(g.parts, p)
			g.lost(p, r.state)
			continue
		}
		next = min(next, left)
	}
	for p, o := range g.others.parts {
		left := o.state.At.Add(g.opts.Silence).Sub(now)
		if left < 0 {
			delete(g.others.parts, p)
			g.lost(p, o.state)
			continue
		}
		next = min(next, left)
	}
	for p, s := range g.gone {
		if now.Sub(s.At) > g.opts.Remember {
			delete(g.gone, p)
		}
	}
	return next
}

// lost remembers the last report of a part that is gone from here. It may report
// elsewhere.
func (g *Gateways) lost(p part, s keymanager.GatewayState) {
	if last, found := g.gone[p]; found && last.At.After(s.At) || !found && len(g.gone) >= maxGone {
		return
	}
	g.gone[p] = s
}

// Wait returns nil when every part that is known and not gone, whichever key
// manager it reports to, has confirmed pos, and every Envoy connected to it has
// acknowledged it: at once when there are none. The zero Position waits for nothing. When ctx ends first
// it returns a KindUnavailable error that names who is missing, whose cause is
// that of ctx.
func (g *Gateways) Wait(ctx context.Context, pos keymanager.Position) error {
	if pos == (keymanager.Position{}) {
		return nil
	}
	for {
		g.mu.Lock()
		next := g.sweep()
		missing, elsewhere := g.missing(pos)
		changed := g.changed
		if elsewhere {
			g.others.ask(g.opts.Now())
		}
		g.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		if elsewhere { // ask again before nobody looks any more
			next = min(next, askedFor/2)
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

// missing names who has not confirmed pos, and says whether some of them report
// to other key managers.
func (g *Gateways) missing(pos keymanager.Position) (out []string, elsewhere bool) {
	for p, r := range g.parts {
		if o := g.others.parts[p]; o != nil && o.state.At.After(r.state.At) {
			continue // it has moved
		}
		s := &r.state
		if !s.Confirmed.Reached(pos) {
			out = append(out, fmt.Sprintf("%s %q", p.kind, p.id))
		}
		for i := range s.Nodes {
			if n := &s.Nodes[i]; n.Connected && !n.Acknowledged.Reached(pos) {
				out = append(out, fmt.Sprintf("envoy %q", n.ID))
			}
		}
	}
	for p, o := range g.others.parts {
		if r := g.parts[p]; r != nil && !o.state.At.After(r.state.At) {
			continue
		}
		switch {
		case !o.state.Confirmed.Reached(pos):
			out, elsewhere = append(out, fmt.Sprintf("%s %q", p.kind, p.id)), true
		case !o.reached.Reached(pos):
			out, elsewhere = append(out, fmt.Sprintf("an Envoy of %s %q", p.kind, p.id)), true
		}
	}
	if g.others.unknown {
		out, elsewhere = append(out, "the gateways of other key managers, of which the database says nothing"), true
	}
	slices.Sort(out)
	return out, elsewhere
}

// words makes what a gateway, or an Envoy behind it, says of itself fit for any
// database: one of its words must not keep the reports of all from being
// shared.
func words(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// readable makes words of every text of a state, which is the caller's own.
func readable(s *keymanager.GatewayState) {
	rejected := func(list []keymanager.RejectedResource) {
		for i := range list {
			r := &list[i]
			r.Node, r.Type, r.Name, r.API, r.Reason = words(r.Node), words(r.Type), words(r.Name), keymanager.APIID(words(string(r.API))), words(r.Reason)
		}
	}
	s.Group = words(s.Group)
	rejected(s.Rejected)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.ID, n.Group, n.Version = words(n.ID), words(n.Group), words(n.Version)
		rejected(n.Rejected)
	}
}

// clone copies a state, so that neither side can change what the other holds.
func clone(s keymanager.GatewayState) keymanager.GatewayState {
	s.Rejected, s.Nodes = slices.Clone(s.Rejected), slices.Clone(s.Nodes)
	for i := range s.Nodes {
		s.Nodes[i].Rejected = slices.Clone(s.Nodes[i].Rejected)
	}
	return s
}
