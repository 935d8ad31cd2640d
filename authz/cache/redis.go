package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"tollgate/keymanager"
)

// Bounds of RedisOptions.Timeout.
const (
	DefaultRedisTimeout = 30 * time.Millisecond
	MinRedisTimeout     = 20 * time.Millisecond
	MaxRedisTimeout     = 50 * time.Millisecond
)

// RedisOptions of NewRedis. All but the times are required; zero times are the
// defaults.
type RedisOptions struct {
	Next        keymanager.Validator  // asked on a miss
	Client      redis.UniversalClient // see NewRedisClient; it stays the caller's to close
	Keys        *RedisKeys
	Timeout     time.Duration // what one look-up may cost; 20 to 50 ms, 0 = DefaultRedisTimeout
	TTL         time.Duration // of a live credential's verdict at most; 0 = DefaultTTL
	NegativeTTL time.Duration // of any other; 0 = DefaultNegativeTTL
	Now         func() time.Time
	Rand        io.Reader
	Logger      *slog.Logger
}

// Redis is a memory of verdicts that gateways share. It changes what an answer
// costs, and never the answer: whatever is not a fresh, whole verdict sealed
// with the Redis key for this query is a miss, and so is every failure of
// Redis. It is a keymanager.Validator and a prometheus.Collector, and safe for
// concurrent use.
//
// Look-ups wait for Redis at most Timeout, and not at all once a few in a row
// have failed, until Run finds that Redis answers again. No answer waits for
// what was learned to be written.
type Redis struct {
	next        keymanager.Validator
	client      redis.UniversalClient
	keys        *RedisKeys
	timeout     time.Duration
	ttl, negTTL time.Duration
	now         func() time.Time
	rand        io.Reader
	log         *slog.Logger

	running  atomic.Bool // Run is
	lanes    *lanes      // nil with a cluster
	breaker  breaker
	writes   chan redisWrite
	plain    sync.Pool    // of *[2048]byte
	damage   occasionally // lines of the log; the metrics count
	unstored occasionally
	outages  occasionally
	told     atomic.Pointer[outage] // the one that is going on; nil = none, or nobody was told
	figures  *redisFigures
}

// NewRedis returns a Redis before o.Next. It is not used until Run runs.
func NewRedis(o RedisOptions) (*Redis, error) {
	switch {
	case o.Next == nil || o.Client == nil || o.Keys == nil || o.Now == nil || o.Rand == nil || o.Logger == nil:
		return nil, errors.New("cache: a Redis needs Next, Client, Keys, Now, Rand and Logger")
	case o.Keys.current == nil:
		return nil, errors.New("cache: Keys of a Redis come from ParseRedisKeys")
	case o.TTL < 0 || o.NegativeTTL < 0:
		return nil, errors.New("cache: lives of a Redis must not be negative")
	}
	timeout := cmp.Or(o.Timeout, DefaultRedisTimeout)
	if timeout < MinRedisTimeout || timeout > MaxRedisTimeout {
		return nil, fmt.Errorf("cache: the timeout of a Redis must be from %s to %s, got %s", MinRedisTimeout, MaxRedisTimeout, timeout)
	}
	r := &Redis{
		next: o.Next, client: o.Client, keys: o.Keys, timeout: timeout,
		ttl: cmp.Or(o.TTL, DefaultTTL), negTTL: cmp.Or(o.NegativeTTL, DefaultNegativeTTL),
		now: o.Now, rand: o.Rand, log: o.Logger,
		breaker: newBreaker(2 * timeout), writes: make(chan redisWrite, maxRedisWrites), figures: newRedisFigures(),
	}
	// In a cluster a round trip for many would wait for the slowest node.
	if _, cluster := o.Client.(*redis.ClusterClient); !cluster {
		r.lanes = newLanes(o.Client)
	}
	return r, nil
}

// Validate implements keymanager.Validator.
func (r *Redis) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	if r.breaker.isOpen() || !r.running.Load() {
		r.figures.lookups[resultSkipped].Add(1)
		return r.next.Validate(ctx, q)
	}
	p := r.keys.current.place(q)
	v, result := r.get(ctx, q, &p)
	if v == nil && result == resultMiss && r.keys.previous != nil {
		before := r.keys.previous.place(q)
		v, result = r.get(ctx, q, &before)
	}
	r.figures.lookups[result].Add(1)
	if v != nil {
		return v, nil
	}
	v, err := r.next.Validate(ctx, q)
	if err != nil || v == nil {
		return nil, err
	}
	r.remember(p, v)
	return v, nil
}

// get looks at one place. Only with resultHit and resultNegative there is a
// verdict.
func (r *Redis) get(ctx context.Context, q keymanager.Query, p *place) (*keymanager.Verdict, redisResult) {
	value, result := r.ask(ctx, p.name)
	if result != resultHit {
		return nil, result
	}
	s, err := r.open(p, value)
	if err != nil {
		r.damaged()
		return nil, resultDamaged
	}
	v, now := &s.verdict, r.now()
	switch {
	case !now.Before(s.until), q.Since != (keymanager.Position{}) && !v.Head.Reached(q.Since):
		return nil, resultOutdated
	case v.Reason != keymanager.ReasonActive:
		return v, resultNegative
	case !v.ExpiresAt.IsZero() && !now.Before(v.ExpiresAt):
		return nil, resultOutdated
	default:
		return v, resultHit
	}
}

// open decodes a value.
func (r *Redis) open(p *place, value []byte) (*stored, error) {
	space, ok := r.plain.Get().(*[2048]byte)
	if !ok {
		space = new([2048]byte)
	}
	defer r.plain.Put(space)
	plain, err := p.open(space[:0], value)
	if err != nil {
		return nil, err
	}
	return decodeStored(plain)
}

// ask reads one value, and tells the breaker how that went.
func (r *Redis) ask(ctx context.Context, name string) ([]byte, redisResult) {
	begun := r.now()
	value, err := r.fetch(ctx, name)
	r.figures.seconds.Observe(r.now().Sub(begun).Seconds())
	switch {
	case err == nil && len(value) == 0: // as GETRANGE says that there is none
		r.breaker.succeeded()
		return nil, resultMiss
	case err == nil:
		r.breaker.succeeded()
		return value, resultHit
	case wrongType(err): // somebody else put something else there
		r.breaker.succeeded()
		r.damaged()
		return nil, resultDamaged
	case ctx.Err() != nil: // the caller's doing
		return nil, resultError
	}
	if r.breaker.failed(r.now()) {
		r.opened(err)
	}
	if isTimeout(err) {
		return nil, resultTimeout
	}
	return nil, resultError
}

func (r *Redis) fetch(ctx context.Context, name string) ([]byte, error) {
	if r.lanes != nil {
		return r.lanes.get(ctx, name, r.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return readValue(ctx, r.client, name).Bytes()
}

// readValue asks for one value, and for no more of it than a verdict can be: a
// reply is read into memory as long as it is, and whoever may write to Redis
// without our key must not be able to exhaust ours.
func readValue(ctx context.Context, c redis.Cmdable, name string) *redis.StringCmd {
	return c.GetRange(ctx, name, 0, maxRedisValue)
}

// damaged tells of a value that is of no use.
func (r *Redis) damaged() {
	if r.damage.due(r.now()) {
		r.log.Warn("a value in Redis is damaged, or not sealed with our Redis key: it counts as a miss. " +
			"Check who may write there, and that all gateways have the same key file")
	}
}

// Run talks to Redis: it looks up, writes what was learned, and finds out when
// Redis answers again. It ends with ctx; what is not written then is lost, which
// costs its next reader a call of the key manager.
func (r *Redis) Run(ctx context.Context) error {
	r.running.Store(true)
	defer r.running.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	for range redisLanes {
		if r.lanes == nil {
			break
		}
		g.Go(func() error { r.lanes.run(ctx); return nil })
	}
	g.Go(func() error { r.write(ctx); return nil })
	g.Go(func() error { r.watch(ctx); return nil })
	return g.Wait()
}
