package cache

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// Defaults of LRUOptions.
const (
	DefaultSize         = 100_000
	DefaultTTL          = 15 * time.Minute
	DefaultNegativeSize = 4096
	DefaultNegativeTTL  = 10 * time.Second

	shards     = 16
	minPerPart = 16
)

// LRUOptions of NewLRU. Now and Next are required; zero sizes and lives are the
// defaults.
type LRUOptions struct {
	Next keymanager.Validator // asked on a miss
	Now  func() time.Time
	Size int           // verdicts of live credentials
	TTL  time.Duration // at most; a verdict never outlives its credential
	// Refusals have a memory of their own, so that they cannot push live
	// credentials out.
	NegativeSize int
	NegativeTTL  time.Duration
}

// LRU remembers verdicts, those used last the longest. It is a
// keymanager.Validator and a prometheus.Collector.
type LRU struct {
	next     keymanager.Validator
	now      func() time.Time
	started  time.Time
	ttl      time.Duration
	active   [shards]shard
	negative [1]shard
	negTTL   time.Duration
	grants   *grants
}

// shard is a part of the cache with a lock of its own.
type shard struct {
	entries               *lru.Cache[Key, *entry]
	hits, misses, expired atomic.Uint64
	_                     [32]byte // to a line of the processor's cache
}

// NewLRU returns an empty cache before o.Next.
func NewLRU(o LRUOptions) (*LRU, error) {
	if o.Next == nil || o.Now == nil {
		return nil, errors.New("cache: an LRU needs Next and Now")
	}
	if o.Size < 0 || o.TTL < 0 || o.NegativeSize < 0 || o.NegativeTTL < 0 {
		return nil, errors.New("cache: sizes and lives of an LRU must not be negative")
	}
	c := &LRU{next: o.Next, now: o.Now, started: o.Now(), ttl: cmp.Or(o.TTL, DefaultTTL), negTTL: cmp.Or(o.NegativeTTL, DefaultNegativeTTL), grants: newGrants()}
	var err error
	size := max(cmp.Or(o.Size, DefaultSize)/shards, minPerPart)
	for i := range c.active {
		if c.active[i].entries, err = lru.New[Key, *entry](size); err != nil {
			return nil, err
		}
	}
	if c.negative[0].entries, err = lru.New[Key, *entry](cmp.Or(o.NegativeSize, DefaultNegativeSize)); err != nil {
		return nil, err
	}
	return c, nil
}

// Validate implements keymanager.Validator.
func (c *LRU) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	key := KeyOf(q)
	now := c.now().Sub(c.started)
	s := &c.active[key.shard(shards)]
	if v := s.get(&key, q.Since, now); v != nil {
		return v, nil
	}
	if v := c.negative[0].get(&key, q.Since, now); v != nil {
		return v, nil
	}
	v, err := c.next.Validate(ctx, q)
	if err != nil || v == nil {
		return nil, err
	}
	return c.put(s, &key, v), nil
}

func (s *shard) get(key *Key, since keymanager.Position, now time.Duration) *keymanager.Verdict {
	e, found := s.entries.Get(*key)
	switch {
	case !found:
		s.misses.Add(1)
	case now >= e.until,
		since != (keymanager.Position{}) && !e.verdict.Head.Reached(since):
		s.expired.Add(1)
	default:
		s.hits.Add(1)
		return &e.verdict
	}
	return nil
}

// put remembers what the facts allow: an active credential for long, a refusal
// for a few seconds, and nothing of a verdict that decides nothing. A verdict
// older than the one that is there does not replace it. What is returned says the
// same as v, with the grant that others have.
func (c *LRU) put(s *shard, key *Key, v *keymanager.Verdict) *keymanager.Verdict {
	other, ttl, expires := &c.negative[0], c.ttl, v.ExpiresAt
	switch v.Reason {
	case keymanager.ReasonActive:
	case keymanager.ReasonUnknown:
		return v
	default: // expiry does not bound it: it may be the reason
		s, other, ttl, expires = other, s, c.negTTL, time.Time{}
	}
	e := &entry{verdict: *v}
	e.verdict.Grant = c.grants.share(v.Grant)
	now := c.now()
	life := lifetime(now, ttl, key, expires)
	if life <= 0 {
		return v
	}
	e.until = now.Sub(c.started) + life
	if old, found := s.entries.Peek(*key); found && newer(old.verdict.Head, v.Head) {
		return &e.verdict
	}
	s.entries.Add(*key, e)
	if old, found := other.entries.Peek(*key); found && newer(v.Head, old.verdict.Head) {
		other.entries.Remove(*key)
	}
	return &e.verdict
}

// Tidy lets go of what has expired. Called every now and then, it keeps the cache
// as large as what is in use, and not as it was in the busiest hour.
func (c *LRU) Tidy() {
	now := c.now().Sub(c.started)
	for i := range c.active {
		c.active[i].tidy(now)
	}
	c.negative[0].tidy(now)
}

// tidy takes from the end of what was not used for the longest time, up to the
// first that has not expired: that holds up those before it for no more than its
// life, and nobody ever waits for a walk through millions. A verdict that is
// renewed meanwhile may go too, which costs its next reader a question.
func (s *shard) tidy(now time.Duration) {
	for {
		key, e, found := s.entries.GetOldest()
		if !found || now < e.until {
			return
		}
		s.entries.Remove(key)
	}
}

// newer reports whether a was read after b in the same epoch.
func newer(a, b keymanager.Position) bool { return a.Epoch == b.Epoch && a.Seq > b.Seq }

// Probe takes every lock of the cache once and waits for nobody else: it ends
// unless an answer from memory would hang.
func (c *LRU) Probe() {
	for i := range c.active {
		c.active[i].entries.Contains(Key{})
	}
	c.negative[0].entries.Contains(Key{})
	c.grants.len()
}

// Len returns the number of remembered verdicts of live credentials, and of
// refusals.
func (c *LRU) Len() (active, negative int) {
	for i := range c.active {
		active += c.active[i].entries.Len()
	}
	return active, c.negative[0].entries.Len()
}

var (
	lookupsDesc = prometheus.NewDesc("tollgate_authz_cache_lookups_total",
		"Look-ups of verdicts in the memory of authz, by level (lru, negative) and result (hit, miss, expired).", []string{"level", "result"}, nil)
	entriesDesc = prometheus.NewDesc("tollgate_authz_cache_entries",
		"Verdicts in the memory of authz, by level.", []string{"level"}, nil)
)

// Describe implements prometheus.Collector.
func (c *LRU) Describe(ch chan<- *prometheus.Desc) {
	ch <- lookupsDesc
	ch <- entriesDesc
}

// Collect implements prometheus.Collector.
func (c *LRU) Collect(ch chan<- prometheus.Metric) {
	level := func(name string, entries int, parts []shard) {
		var hits, misses, expired uint64
		for i := range parts {
			hits += parts[i].hits.Load()
			misses += parts[i].misses.Load()
			expired += parts[i].expired.Load()
		}
		for result, n := range map[string]uint64{"hit": hits, "miss": misses, "expired": expired} {
			ch <- prometheus.MustNewConstMetric(lookupsDesc, prometheus.CounterValue, float64(n), name, result)
		}
		ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(entries), name)
	}
	active, negative := c.Len()
	level("lru", active, c.active[:])
	level("negative", negative, c.negative[:])
}
