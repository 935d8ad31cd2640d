package cache

import (
	"sync"
	"time"
)

// occasionally lets something happen at most once in ten seconds. The zero value
// is ready; it is safe for concurrent use.
type occasionally struct {
	mu   sync.Mutex
	last time.Time
}

// due tells whether it may happen now, and takes it that it does. A clock that is
// set back does not hold it up.
func (o *occasionally) due(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d := now.Sub(o.last); d >= 0 && d < 10*time.Second {
		return false
	}
	o.last = now
	return true
}
