package db

import (
	"context"
	"errors"
	"time"
)

// budget gives ctx a deadline if it has none.
func budget(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

func isNoRows(err error) bool { return errors.Is(err, ErrNoRows) }
