package publish

import (
	"context"
	"math/rand/v2"
	"reflect"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

const (
	// together is how long a changed report waits for those of other gateways,
	// which tell of the same event.
	together = 3 * time.Millisecond
	// lookEvery is how often the reports of others are read while somebody
	// waits for them.
	lookEvery = 8 * time.Millisecond
	// askedFor is how long one question keeps that going.
	askedFor = 200 * time.Millisecond
	// share bounds what prompt exchanges cost: one that took a time is followed
	// by that many times of rest, up to maxPause.
	share    = 4
	maxPause = 25 * time.Millisecond
	// exchangeTimeout bounds one exchange.
	exchangeTimeout = 2 * time.Second
	// wholeEvery is how often everything is told anew, in case that the database
	// has lost it without a failure that was seen here.
	wholeEvery = 10 * time.Second
)

// others is what other key managers have told of their gateways. The lock of
// Gateways guards it.
type others struct {
	parts   map[part]*toldReport
	unknown bool // nothing could be read, so far or for a while
	until   time.Time
	news    chan struct{} // there is something to tell
	asked   chan struct{} // somebody waits
}

// toldReport is what another key manager has told of a part.
type toldReport struct {
	state   keymanager.GatewayState
	reached keymanager.Position // by its Envoys too
	whole   bool                // its document has been read
}

func newOthers(shared bool) others {
	return others{parts: map[part]*toldReport{}, unknown: shared, news: make(chan struct{}, 1), asked: make(chan struct{}, 1)}
}

// ask has the reports of others read at once, and again for a while.
func (o *others) ask(now time.Time) {
	o.until = now.Add(askedFor)
	signal(o.asked)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// keep stores a report, and has it told if it says something new.
func (g *Gateways) keep(s keymanager.GatewayState) {
	p := part{s.Kind, s.ID}
	if g.opts.Shared == nil {
		g.parts[p] = &reported{state: s}
		return
	}
	r := g.parts[p]
	if r == nil {
		r = &reported{}
		g.parts[p] = r
	}
	old, now := rest(&r.state), rest(&s)
	same := r.whole && reflect.DeepEqual(old, now)
	old.Lag, now.Lag = 0, 0 // a figure that need not be told at once
	if r.state.Confirmed != s.Confirmed || !same && !reflect.DeepEqual(old, now) {
		signal(g.others.news)
	}
	r.state, r.told, r.whole = s, false, same
}

// rest is what a report holds beside the position and the time.
func rest(s *keymanager.GatewayState) *keymanager.GatewayState {
	c := *s
	c.Confirmed, c.At = keymanager.Position{}, time.Time{}
	return &c
}

// reached is how far a part and all Envoys that are connected to it are.
func reached(s *keymanager.GatewayState) keymanager.Position {
	at := s.Confirmed
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case !n.Connected:
		case n.Acknowledged.Epoch != at.Epoch:
			at.Seq = 0
		default:
			at.Seq = min(at.Seq, n.Acknowledged.Seq)
		}
	}
	return at
}

// Run exchanges reports with the other key managers until ctx ends; without
// Shared it only waits. While the database does not answer, nothing else
// suffers.
func (g *Gateways) Run(ctx context.Context) error {
	if g.opts.Shared == nil {
		<-ctx.Done()
		return nil
	}
	var since, whole time.Time
	failing := false
	for ctx.Err() == nil {
		begun := g.opts.Now()
		if now := begun; since.IsZero() || now.Sub(whole) >= wholeEvery || now.Before(whole) {
			whole = now
			g.tellAll()
		}
		next, err := g.exchange(ctx, since)
		if failed := err != nil; failed != failing && ctx.Err() == nil {
			if failing = failed; failed {
				g.opts.Logger.Error("what gateways report cannot be shared with the other key managers: only those of this one are known", "error", err)
			} else {
				g.opts.Logger.Info("what gateways report is shared with the other key managers again")
			}
		}
		since = next // the zero time after a failure: all anew
		g.pause(ctx, g.opts.Now().Sub(begun), failing)
	}
	return nil
}

// pause waits until there is a reason for another exchange.
func (g *Gateways) pause(ctx context.Context, took time.Duration, failing bool) {
	exchange := g.opts.Exchange
	timer := time.NewTimer(exchange - exchange/8 + rand.N(exchange/4+1)) //nolint:gosec // no secret: not all key managers at once
	defer timer.Stop()
	pause := max(together, min(share*took, maxPause))
	if failing { // a failure that comes at once must not come all the time
		pause = max(pause, exchange/4)
	}
	asked := g.others.asked
	g.mu.Lock()
	waited := g.opts.Now().Before(g.others.until)
	g.mu.Unlock()
	if waited {
		asked = nil // they have been heard
		timer.Reset(max(lookEvery, pause))
	}
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-asked:
		if !failing {
			return
		}
	case <-g.others.news:
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// tellAll has every document told again.
func (g *Gateways) tellAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.parts {
		r.whole = false
	}
}

// exchange tells what has been reported here since the last time, and keeps
// what others tell.
func (g *Gateways) exchange(ctx context.Context, since time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(store.Vital(ctx), exchangeTimeout)
	defer cancel()
	own, parts := g.untold()
	begun := g.opts.Now()
	told, next, err := g.opts.Shared.ExchangeGatewayReports(ctx, g.opts.ID, own, g.opts.Silence, since)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.others.unknown = true
		for _, p := range parts {
			if r := g.parts[p]; r != nil {
				r.told, r.whole = false, false
			}
		}
		return time.Time{}, err
	}
	g.others.unknown = false
	if g.take(told, begun) {
		next = time.Time{} // a document is missing
	}
	g.wake()
	return next, nil
}

// untold returns what was reported here and not told yet, as told.
func (g *Gateways) untold() ([]store.GatewayReport, []part) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep()
	now := g.opts.Now()
	var own []store.GatewayReport
	var parts []part
	for p, r := range g.parts {
		if r.told {
			continue
		}
		report := store.GatewayReport{Kind: p.kind, ID: p.id, Confirmed: r.state.Confirmed, Reached: reached(&r.state), Age: max(0, now.Sub(r.state.At))}
		if !r.whole {
			report.Document = rest(&r.state)
		}
		r.told, r.whole = true, true
		own, parts = append(own, report), append(parts, p)
	}
	return own, parts
}

// take keeps what others have told, read at the time given, and reports
// whether a document of it is not known.
func (g *Gateways) take(told []store.GatewayReport, at time.Time) (incomplete bool) {
	before := g.others.parts
	g.others.parts = make(map[part]*toldReport, len(told))
	for _, t := range told {
		p := part{t.Kind, t.ID}
		r := &toldReport{reached: t.Reached}
		if old := before[p]; t.Document != nil {
			r.state, r.whole = *t.Document, true
		} else if old != nil {
			r.state, r.whole = old.state, old.whole
		}
		r.state.Kind, r.state.ID, r.state.Confirmed, r.state.At = t.Kind, t.ID, t.Confirmed, at.Add(-t.Age)
		g.others.parts[p] = r
		incomplete = incomplete || !r.whole
	}
	for p, old := range before {
		if g.others.parts[p] == nil {
			g.lost(p, old.state)
		}
	}
	return incomplete
}
