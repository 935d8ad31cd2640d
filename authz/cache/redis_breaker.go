package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// redisFailures in a row, of look-ups and probes, open the breaker, unless
	// they come within twice the time that a look-up may take: one hiccup that
	// many wait for is one failure.
	redisFailures = 3
	// suspectWait is between probes while the breaker is not open yet.
	suspectWait = 10 * time.Millisecond
	// A probe that failed is followed by the next after a wait that doubles
	// from the one to the other, give or take half of it.
	minProbeWait = 100 * time.Millisecond
	maxProbeWait = 800 * time.Millisecond
	// connectTimeout is what making a connection for a probe may take, apart
	// from the probe.
	connectTimeout = time.Second
)

// breaker is open while Redis is not asked.
type breaker struct {
	span     time.Duration // how long it must have failed at least
	open     atomic.Bool
	answered atomic.Bool // Redis has, once
	failures atomic.Int32
	first    atomic.Int64  // when the first failure in a row was, Unix nanoseconds
	wake     chan struct{} // capacity 1: there is something to probe
}

func newBreaker(span time.Duration) breaker {
	return breaker{span: span, wake: make(chan struct{}, 1)}
}

func (b *breaker) isOpen() bool { return b.open.Load() }

// isUp reports whether Redis is known to answer.
func (b *breaker) isUp() bool { return b.answered.Load() && !b.open.Load() }

func (b *breaker) succeeded() {
	if !b.answered.Load() {
		b.answered.Store(true)
	}
	if b.failures.Load() != 0 {
		b.failures.Store(0)
	}
}

// failed reports whether this failure is the one that opened the breaker.
func (b *breaker) failed(now time.Time) bool {
	n, at := b.failures.Add(1), now.UnixNano()
	if n == 1 || at < b.first.Load() { // the clock was set back
		b.first.Store(at)
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return n >= redisFailures && at-b.first.Load() >= int64(b.span) && b.open.CompareAndSwap(false, true)
}

// watch probes at the start, so that it is known whether there is a Redis
// before anybody asks, and after a failure: at once, so that one that hangs is
// found out soon also where few ask. It probes one at a time until Redis
// answers.
func (r *Redis) watch(ctx context.Context) {
	for {
		wait := minProbeWait
		for r.breaker.failures.Load() > 0 || !r.breaker.isUp() {
			if !r.breaker.isOpen() {
				pause(ctx, suspectWait)
			} else if pause(ctx, wait); wait < maxProbeWait {
				wait *= 2
			}
			if err := r.probe(ctx); ctx.Err() != nil {
				return
			} else if err == nil {
				r.breaker.succeeded()
				if r.breaker.open.CompareAndSwap(true, false) {
					if over := r.told.Swap(nil); over != nil {
						r.log.Info("Redis answers again: verdicts come from it, and go there", "after", r.now().Sub(over.since).Round(time.Millisecond))
					}
				}
			} else if r.breaker.failed(r.now()) || r.breaker.isOpen() {
				r.opened(err)
			}
		}
		select {
		case <-r.breaker.wake:
		case <-ctx.Done():
			return
		}
	}
}

// probe looks for what is not there, in a cluster on any of its nodes. At the
// start and with the breaker open there may be no connection: making one is not
// part of the time that the answer may take.
func (r *Redis) probe(ctx context.Context) error {
	if !r.breaker.isUp() {
		if err := r.look(ctx, connectTimeout); err != nil {
			return err
		}
	}
	return r.look(ctx, r.timeout)
}

func (r *Redis) look(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return readValue(ctx, r.client, fmt.Sprint(RedisPrefix, "probe:", rand.Uint32())).Err() //nolint:gosec // not a secret
}

// outage is a time without Redis that the log was told of.
type outage struct {
	since  time.Time
	advice string
}

// opened tells that Redis is not used, and again when something else is found
// to be wrong: a probe, which has time to connect, may say more than a look-up
// that was late.
func (r *Redis) opened(err error) {
	now, advice := r.now(), adviceFor(err)
	told := r.told.Load()
	if told == nil && !r.outages.due(now) || told != nil && told.advice == advice {
		return
	}
	next := &outage{since: now, advice: advice}
	if told != nil {
		next.since = told.since
	}
	if r.told.CompareAndSwap(told, next) {
		r.log.Warn("Redis fails or is slow: the key manager is asked instead, until Redis answers again. "+advice, "error", err)
	}
}

// pause waits for about d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d)) //nolint:gosec // not a secret
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func wrongType(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }
