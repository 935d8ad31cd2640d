package publish

import (
	"context"
	"time"

	"tollgate/keymanager/store"
)

// prune removes, every now and then, the events that the log need not keep,
// and what is dead and has expired.
func (s *Service) prune(ctx context.Context) {
	tick := time.NewTicker(s.opts.PruneEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			err := s.pruneOnce(ctx)
			if failed := err != nil; failed != failing && ctx.Err() == nil {
				if failing = failed; failed {
					s.opts.Logger.Warn("the log cannot be pruned", "error", err)
				} else {
					s.opts.Logger.Info("the log is pruned again")
				}
			}
		}
	}
}

func (s *Service) pruneOnce(ctx context.Context) error {
	ctx = store.Patient(ctx)
	apart, err := skew(ctx, s.opts.Store, s.opts.Now)
	if err != nil {
		return err
	}
	if apart.Abs() > skewStop { // what is dead must not be forgotten before its time
		return tooFarApart(apart)
	}
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
