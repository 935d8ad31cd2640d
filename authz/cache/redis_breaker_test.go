package cache

import (
	"testing"
	"time"
)

// A clock that is set back does not keep the breaker shut until it has caught
// up.
func TestBreakerAndTheClock(t *testing.T) {
	const span = 60 * time.Millisecond
	b, now := newBreaker(span), time.Now()
	if b.failed(now) {
		t.Error("open after one failure")
	}
	now = now.Add(-24 * time.Hour)
	for range redisFailures {
		if b.failed(now) {
			t.Error("open at once")
		}
	}
	if !b.failed(now.Add(span)) || !b.isOpen() {
		t.Error("still shut when the failures have lasted")
	}
}
