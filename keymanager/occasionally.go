package keymanager

import (
	"sync"
	"time"
)

// Occasionally lets something be told at most once in ten seconds, with how often
// it happened: what fails, and who is refused, comes again thousands of times a
// second. The zero value is ready; it is safe for concurrent use.
type Occasionally struct {
	mu    sync.Mutex
	since int // how often it happened since it was told
	told  time.Time
}

// Tell counts, and returns how often it happened since it was last told, or 0
// when it is too early to tell. A clock that is set back does not silence it.
func (o *Occasionally) Tell(now time.Time) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since++
	if d := now.Sub(o.told); d >= 0 && d < 10*time.Second {
		return 0
	}
	n := o.since
	o.since, o.told = 0, now
	return n
}
