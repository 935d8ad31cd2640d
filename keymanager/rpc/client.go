package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// ClientOptions are what a Client needs. Targets is required; zero times are
// their defaults.
type ClientOptions struct {
	// Targets are the key managers: HOST:PORT, or the absolute path of a Unix
	// socket. All addresses of a name are used.
	Targets []string
	// TLS is the client's certificate and the authorities of the key managers'
	// (RootCAs). ServerName is the name in their certificates; "" = the host of
	// the target. nil = plaintext, for loopback addresses and sockets alone.
	TLS *tls.Config
	// TrustDomain is that of the key managers' certificates; required with TLS.
	TrustDomain string
	Logger      *slog.Logger // nil: no log
	// TryTimeout is how long a key manager may take to answer if another one
	// could be asked, to say anything on a new stream, and to answer whether it
	// is well; 0 = 1 s. Validate gives it half of the time left at most.
	TryTimeout time.Duration
	// CallTimeout is the time of a call whose context has no deadline; 0 = 5 s.
	CallTimeout time.Duration
	// Silence is how long a stream may bring nothing before it counts as broken:
	// heartbeats come each second. 0 = 3 s.
	Silence time.Duration
	// ResolveEvery is how often names are looked up; 0 = 30 s.
	ResolveEvery time.Duration
	// Resolve looks a name up; nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Client implements the four contracts of package keymanager over one
// connection to each of several key managers. Validate spreads over all of
// them, a stream holds one, and reports go there.
type Client struct {
	opts    ClientOptions
	targets []target

	endpoints atomic.Pointer[[]*endpoint] // never changed in place
	resolved  chan struct{}               // closed when every name was looked up once
	lookUp    chan struct{}               // asks for it now
	last      map[target][]netip.Addr     // of resolve alone: what names meant
	lost      map[target]bool             // of resolve alone: names that cannot be looked up, of which the log was told

	home atomic.Pointer[endpoint] // of the stream that was opened last

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	avoid  map[method]*endpoint // where the last stream of a kind broke
	closed bool
}

// NewClient returns a Client, which connects by itself. Close ends it.
func NewClient(o ClientOptions) (*Client, error) {
	if len(o.Targets) == 0 {
		return nil, errors.New("rpc: ClientOptions needs Targets")
	}
	if o.TryTimeout < 0 || o.CallTimeout < 0 || o.Silence < 0 || o.ResolveEvery < 0 {
		return nil, errors.New("rpc: a time of ClientOptions is negative")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.TryTimeout = cmp.Or(o.TryTimeout, time.Second)
	o.CallTimeout = cmp.Or(o.CallTimeout, 5*time.Second)
	o.Silence = cmp.Or(o.Silence, 3*time.Second)
	o.ResolveEvery = cmp.Or(o.ResolveEvery, 30*time.Second)
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if err := checkTLS(o); err != nil {
		return nil, err
	}
	c := &Client{opts: o, resolved: make(chan struct{}), lookUp: make(chan struct{}, 1), last: map[target][]netip.Addr{}, lost: map[target]bool{}, avoid: map[method]*endpoint{}}
	for _, t := range o.Targets {
		parsed, err := parseTarget(t, o.TLS == nil)
		if err != nil {
			return nil, err
		}
		c.targets = append(c.targets, parsed)
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.start()
	return c, nil
}

// Close ends all connections, and with them all calls.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.work.Wait()
	var errs []error
	for _, e := range c.all() {
		errs = append(errs, e.conn.Close())
	}
	c.endpoints.Store(&[]*endpoint{})
	return errors.Join(errs...)
}

// Validate implements keymanager.Validator. When a key manager does not answer
// in time, or cannot, another one is asked; and if that one cannot either, a first
// that was only slow is asked again.
func (c *Client) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	m, err := queryTo(q)
	if err != nil {
		return nil, notValid(err)
	}
	out, err := ask(ctx, c, nil, func(ctx context.Context, e *endpoint) (*pb.ValidateResponse, error) {
		return e.keyManager.Validate(ctx, m)
	})
	if err != nil {
		return nil, err
	}
	v, err := verdictFrom(out.GetVerdict())
	if err != nil {
		return nil, notUnderstood(err)
	}
	return v, nil
}

// ask asks one key manager, first if it is well, and if it does not answer in
// time, or cannot, another one.
func ask[R any](ctx context.Context, c *Client, first *endpoint, call func(context.Context, *endpoint) (R, error)) (none R, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.CallTimeout)
		defer cancel()
	}
	e := first
	if e == nil || e.unwell.Load() || e.gone.Load() {
		if e, err = c.pick(ctx, nil); err != nil {
			return none, err
		}
	}
	answer, failed := try(ctx, c, e, c.share(ctx), call)
	if failed.elsewhere && ctx.Err() == nil {
		if other, err := c.pick(ctx, e); err == nil && other != e {
			if other.unwell.Load() {
				other.wake(ctx)
			}
			slow, limit := errors.Is(failed.err, context.DeadlineExceeded), c.share(ctx)
			if !slow {
				limit = 0 // who is the only one left has all the time that is left
			}
			answer, failed = try(ctx, c, other, limit, call)
			if slow && failed.elsewhere && ctx.Err() == nil {
				answer, failed = try(ctx, c, e, 0, call)
			}
		}
	}
	switch {
	case failed.err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return none, ctx.Err()
	default:
		return none, failed.err
	}
}

// share is how much of the time of a call one key manager may take: if there are
// others, not all of it, which is 0.
func (c *Client) share(ctx context.Context) time.Duration {
	if len(c.all()) == 1 {
		return 0
	}
	limit := c.opts.TryTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	return max(limit, 1)
}

// try asks one key manager, for no longer than a limit, 0 for none.
func try[R any](ctx context.Context, c *Client, e *endpoint, limit time.Duration, call func(context.Context, *endpoint) (R, error)) (answer R, _ failure) {
	own := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		own, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	e.calls.Add(1)
	answer, err := call(own, e)
	e.calls.Add(-1)
	if err == nil {
		return answer, failure{}
	}
	f := failureOf(err)
	if f.transport && ctx.Err() == nil {
		c.suspect(e, f.err) //nolint:contextcheck // the probe outlives the call
	}
	return answer, f
}
