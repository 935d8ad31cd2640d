package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"tollgate/keymanager"
)

const (
	maxRedisWrites = 4096 // waiting at most
	maxRedisBatch  = 64   // in one round trip
	// redisWriteTimeout bounds the round trip of a batch: nobody waits for it.
	redisWriteTimeout = 500 * time.Millisecond
)

// redisWrite is a verdict on its way to Redis. It is sealed when its turn
// comes.
type redisWrite struct {
	place place
	stored
}

// remember queues what the facts allow, as LRU.put does. The queue is bounded:
// what finds it full is not written.
func (r *Redis) remember(p place, v *keymanager.Verdict) {
	ttl := r.ttl
	switch v.Reason {
	case keymanager.ReasonUnknown:
		return
	case keymanager.ReasonActive:
	default:
		ttl = r.negTTL
	}
	now := r.now()
	// ±10 %, so that what came together does not go together.
	until := now.Add(time.Duration(float64(ttl) * (0.9 + rand.Float64()/5))) //nolint:gosec // not a secret
	if v.Reason == keymanager.ReasonActive && !v.ExpiresAt.IsZero() && v.ExpiresAt.Before(until) {
		until = v.ExpiresAt
	}
	if until.Sub(now) < time.Millisecond {
		return
	}
	select {
	case r.writes <- redisWrite{p, stored{until, *v}}:
	default:
		r.figures.writes[writeDropped].Add(1)
	}
}

// write empties the queue until ctx ends.
func (r *Redis) write(ctx context.Context) {
	batch := make([]redisWrite, 0, maxRedisBatch)
	for {
		batch = batch[:0]
		select {
		case w := <-r.writes:
			batch = append(batch, w)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < maxRedisBatch; {
			select {
			case w := <-r.writes:
				batch = append(batch, w)
			default:
				more = false
			}
		}
		if r.breaker.isOpen() {
			r.figures.writes[writeDropped].Add(uint64(len(batch)))
			continue
		}
		r.writeBatch(ctx, batch)
	}
}

func (r *Redis) writeBatch(ctx context.Context, batch []redisWrite) {
	ctx, cancel := context.WithTimeout(ctx, redisWriteTimeout)
	defer cancel()
	now := r.now()
	var plain []byte
	commands, err := r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range batch {
			w := &batch[i]
			plain = w.append(plain[:0])
			value, err := w.place.seal(nil, plain, r.rand)
			if left := w.until.Sub(now); err == nil && left >= time.Millisecond && len(value) <= maxRedisValue {
				pipe.Set(ctx, w.place.name, value, left.Truncate(time.Millisecond))
			}
		}
		return nil
	})
	var failed uint64
	for _, c := range commands {
		if c.Err() != nil {
			failed, err = failed+1, c.Err()
		}
	}
	r.figures.writes[writeDone].Add(uint64(len(commands)) - failed)
	r.figures.writes[writeFailed].Add(failed)
	var refused redis.Error // the look-ups tell of anything else
	if !errors.As(err, &refused) {
		return
	}
	if r.unstored.due(r.now()) {
		r.log.Warn("Redis did not take a verdict: decisions go on, and the key manager is asked more often. "+adviceFor(err), "error", err)
	}
}

// adviceFor says what to do about a reply that is an error.
func adviceFor(err error) string {
	switch text := err.Error(); {
	case strings.HasPrefix(text, "OOM"):
		return "Redis is full: raise maxmemory, or set maxmemory-policy volatile-ttl"
	case strings.HasPrefix(text, "NOPERM"):
		return "The user lacks a right: it needs ~" + RedisPrefix + "* +getrange +set"
	case strings.HasPrefix(text, "NOAUTH"), strings.HasPrefix(text, "WRONGPASS"):
		return "Check the user name and the password"
	case strings.HasPrefix(text, "READONLY"):
		return "This is a replica: name the master, or use Sentinel"
	case strings.HasPrefix(text, "MISCONF"):
		return "Redis cannot save its data: switch persistence off, it only holds a cache"
	case strings.HasPrefix(text, "MOVED"), strings.HasPrefix(text, "ASK"), strings.HasPrefix(text, "CLUSTERDOWN"):
		return "This is a cluster: set the mode to cluster, and see that every slot has a master"
	case strings.Contains(text, "tls: "), strings.Contains(text, "x509: "):
		return "Check the certificates: that of Redis has to be of a CA in redis.tls, and names where it is called"
	default:
		return "Check that Redis runs and can be reached from here"
	}
}
