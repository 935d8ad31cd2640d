package store

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// CleanUp removes what is old every now and then, patiently, until ctx ends:
// remove is called about once in every, give or take an eighth, so that not all
// key managers come at once. When it begins to fail, and when it succeeds
// again, that is logged of what ("expired tokens").
func CleanUp(ctx context.Context, every time.Duration, log *slog.Logger, what string, remove func(context.Context) error) {
	ctx = Patient(ctx)
	failing := false
	for sleep(ctx, every-every/8+rand.N(every/4+1)) { //nolint:gosec // no secret
		err := remove(ctx)
		if failed := err != nil; failed != failing && ctx.Err() == nil {
			if failing = failed; failed {
				log.Error(what+" are not removed", "error", err)
			} else {
				log.Info(what + " are removed again")
			}
		}
	}
}

// InBatches calls remove, which removes at most batch objects and returns how
// many, until there were fewer, it fails or ctx ends. It rests after each, so
// that others get their turn, and returns how many were removed.
func InBatches(ctx context.Context, batch int, rest time.Duration, remove func(limit int) (int, error)) (total int, err error) {
	for {
		n, err := remove(batch)
		total += n
		if err != nil || n < batch || !sleep(ctx, rest) {
			return total, err
		}
	}
}

// sleep waits for d, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
