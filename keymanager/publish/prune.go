package publish

import (
	"context"
	"time"
)

// prune removes, every now and then, the events that the log need not keep,
// and what is dead and has expired.
func (s *Service) prune(ctx context.Context) {
	tick := time.NewTicker(s.opts.PruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.pruneOnce(ctx); err != nil && ctx.Err() == nil {
				s.opts.Logger.Warn("the log cannot be pruned", "error", err)
			}
		}
	}
}

func (s *Service) pruneOnce(ctx context.Context) error {
	head, err := s.opts.Store.Head(ctx)
	if err != nil {
		return err
	}
	var upTo uint64
	if head.Seq > s.opts.Retention {
		upTo = head.Seq - s.opts.Retention
	}
	return s.opts.Store.Prune(ctx, upTo, s.opts.Now())
}
