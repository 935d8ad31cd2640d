package rpc

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"google.golang.org/grpc/connectivity"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Pauses between the probes of a key manager that is unwell.
const (
	firstProbe = 100 * time.Millisecond
	lastProbe  = 2 * time.Second
)

// goOn runs f beside the caller, until Close at most, and reports whether it
// does.
func (c *Client) goOn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(f)
	return true
}

// start makes the endpoints of sockets and addresses, and keeps those of names
// up to date.
func (c *Client) start() {
	names := false
	for _, t := range c.targets {
		names = names || t.socket == "" && !t.addr.IsValid()
	}
	if !names {
		c.resolve()
		close(c.resolved)
		return
	}
	c.goOn(func() {
		for first := true; ; first = false {
			c.resolve()
			if first {
				close(c.resolved)
			}
			select {
			case <-c.ctx.Done():
				return
			case <-c.lookUp:
				select { // not faster than that
				case <-c.ctx.Done():
					return
				case <-time.After(time.Second):
				}
			case <-time.After(c.opts.ResolveEvery):
			}
		}
	})
}

// lookUpNow asks for the names to be looked up soon.
func (c *Client) lookUpNow() {
	select {
	case c.lookUp <- struct{}{}:
	default:
	}
}

// resolve looks every name up, and opens and closes connections accordingly. A
// name that cannot be looked up keeps its addresses.
func (c *Client) resolve() {
	type key struct {
		network, address, host string
	}
	have := map[key]*endpoint{}
	for _, e := range c.all() {
		have[key{e.network, e.address, e.host}] = e
	}
	var list []*endpoint
	add := func(t target, addr netip.Addr) {
		k := key{"unix", t.socket, t.host}
		if t.socket == "" {
			k = key{"tcp", netip.AddrPortFrom(addr, t.port).String(), t.host}
		}
		e := have[k]
		if e == nil {
			var err error
			if e, err = c.newEndpoint(t, k.network, k.address); err != nil {
				c.opts.Logger.Error("a key manager cannot be used", "address", k.address, "error", err)
				return
			}
		}
		have[k] = e
		if !e.listed {
			e.listed = true
			list = append(list, e)
		}
	}
	for _, e := range have {
		e.listed = false
	}
	for _, t := range c.targets {
		switch {
		case t.socket != "", t.addr.IsValid():
			add(t, t.addr)
		default:
			for _, addr := range c.addresses(t) {
				add(t, addr)
			}
		}
	}
	c.endpoints.Store(&list)
	for _, e := range have {
		if !e.listed {
			e.gone.Store(true)
			_ = e.conn.Close() // what is under way goes elsewhere
		}
	}
}

// addresses looks a name up. When that fails it returns the addresses of the
// last time.
func (c *Client) addresses(t target) []netip.Addr {
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	found, err := c.opts.Resolve(ctx, t.host)
	if err != nil || len(found) == 0 {
		if c.ctx.Err() == nil && !c.lost[t] {
			c.lost[t] = true
			c.opts.Logger.Warn("the name of a key manager cannot be looked up", "name", t.host, "error", err)
		}
		return c.last[t]
	}
	if c.lost[t] {
		delete(c.lost, t)
		c.opts.Logger.Info("the name of a key manager can be looked up again", "name", t.host)
	}
	var out []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !t.local || a.IsLoopback() {
			out = append(out, a)
		}
	}
	c.last[t] = out
	return out
}

// suspect marks an endpoint as unwell and probes it until it is well again.
func (c *Client) suspect(e *endpoint, why error) {
	if !e.unwell.CompareAndSwap(false, true) {
		return
	}
	c.goOn(func() {
		begun, logged := time.Now(), false
		for wait := firstProbe; !e.gone.Load(); wait = min(2*wait, lastProbe) {
			if c.well(e) {
				e.unwell.Store(false)
				if logged {
					c.opts.Logger.Info("a key manager answers again", "address", e.address, "after", time.Since(begun).Round(time.Millisecond))
				}
				return
			}
			if c.ctx.Err() == nil && !logged {
				logged = true
				c.opts.Logger.Warn("a key manager does not answer; others are asked, where there are any", "address", e.address, "error", why)
			}
			select {
			case <-c.ctx.Done():
				return
			case <-e.probe:
			case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // nothing secret
			}
		}
	})
}

// How long a call waits for the connection to a key manager that did not
// answer, and how often at most such calls have it try anew.
const (
	wakeTime  = 100 * time.Millisecond
	wakeEvery = 50 * time.Millisecond
)

// wake connects to a key manager that did not answer without waiting for the
// next probe: no other one is left to ask, and it may be back. So it is when the
// key managers are replaced one right after the other.
func (e *endpoint) wake(ctx context.Context) {
	now, last := time.Now().UnixNano(), e.woken.Load()
	setBack := now < last // the clock
	if (setBack || now-last >= int64(wakeEvery)) && e.woken.CompareAndSwap(last, now) {
		e.conn.ResetConnectBackoff()
		select {
		case e.probe <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wakeTime)
	defer cancel()
	for state := e.conn.GetState(); state != connectivity.Ready && e.conn.WaitForStateChange(ctx, state); {
		state = e.conn.GetState()
	}
}

// well asks whether a key manager is well.
func (c *Client) well(e *endpoint) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.TryTimeout)
	defer cancel()
	if e.conn.GetState() == connectivity.TransientFailure {
		e.conn.ResetConnectBackoff()
	}
	out, err := e.health.Check(ctx, &healthpb.HealthCheckRequest{})
	return err == nil && out.GetStatus() == healthpb.HealthCheckResponse_SERVING
}
