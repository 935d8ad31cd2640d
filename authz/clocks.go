package authz

import (
	"context"
	"log/slog"
	"time"
)

// How far the key manager's clock may be from the one here.
const (
	tellSkew = 2 * time.Second // told of in the log and by the metric
	// maxSkew is when authz is not ready any more, and does not decide what the
	// clocks do not agree on.
	maxSkew = time.Minute
)

// told notes what the key manager's clock showed at now.
func (c *contact) told(theirs, now time.Time) {
	c.theirs.Store(theirs.UnixNano() - int64(c.since(now)))
}

// skew returns the key manager's clock minus the clock here at now. A step of
// the clock here shows at once, not only with the next heartbeat.
func (c *contact) skew(now time.Time) time.Duration {
	theirs := c.theirs.Load()
	if theirs == 0 {
		return 0
	}
	return time.Duration(theirs + int64(c.since(now)) - now.UnixNano())
}

// clocks are what two clocks show at one moment. The key manager's is zero
// unless it is more than maxSkew away.
type clocks struct{ here, keyManager time.Time }

func (c *contact) clocks(now time.Time) clocks {
	out := clocks{here: now}
	if skew := c.skew(now); skew.Abs() > maxSkew {
		out.keyManager = now.Add(skew)
	}
	return out
}

// expired says whether a time has come: at that very moment it has. Expiry is
// decided by the clock here, without leeway: nobody else's clock made the time.
// Agreed is false where a clock is wrong, and it depends on which.
func (c clocks) expired(at time.Time) (expired, agreed bool) {
	if at.IsZero() {
		return false, true
	}
	expired = !c.here.Before(at)
	return expired, c.keyManager.IsZero() || expired == !c.keyManager.Before(at)
}

// skewLevel is how wrong a clock is, as the log has it.
type skewLevel uint8

const (
	skewNone skewLevel = iota
	skewTold
	skewMax
)

// tellSkew logs when a clock becomes wrong and when it is right again. What was
// told is taken back at half the bound only: two key managers are never equal.
func (s *Server) tellSkew(ctx context.Context, told skewLevel, skew time.Duration) skewLevel {
	level := skewNone
	switch off := skew.Abs(); {
	case off > maxSkew, told == skewMax && off > maxSkew/2:
		level = skewMax
	case off > tellSkew, told != skewNone && off > tellSkew/2:
		level = skewTold
	}
	if level == told {
		return told
	}
	text, severity := "the key manager's clock agrees with the clock here again", slog.LevelInfo
	switch level {
	case skewTold:
		text, severity = "the key manager's clock differs from the clock here: check that both are synchronised", slog.LevelWarn
	case skewMax:
		text, severity = "the key manager's clock differs too much from the clock here: not ready, and 503 where expiry depends on it; synchronise both", slog.LevelError
	}
	s.log.Log(ctx, severity, text, "skew", skew.Round(time.Millisecond))
	return level
}
