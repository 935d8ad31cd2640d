package publish

import (
	"context"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// hydrate turns the feed of events into the feed of changes until ctx ends: it
// reads each object that an event names, once for all streams. When the store
// fails it tries again; revocations, which need no object, go on meanwhile.
func (s *Service) hydrate(ctx context.Context) {
	var cursor keymanager.Position
	failing := false
	for ctx.Err() == nil {
		v := s.events.view(cursor)
		items, to, ok := v.items, v.head, true
		var err error
		switch v.place {
		case unloaded, held:
		case behind:
			items, to, ok, err = s.readEvents(ctx, cursor)
		case ahead, foreign:
			ok = false
		case ended:
			return
		}
		var changes []item[keymanager.Change]
		if err == nil && ok {
			changes, err = s.load(ctx, items)
		}
		if failed := err != nil; failed != failing && ctx.Err() == nil {
			if failing = failed; failed {
				s.opts.Logger.Error("the catalog cannot be read: gateways are not told of its changes", "error", err)
			} else {
				s.opts.Logger.Info("the catalog can be read again")
			}
		}
		switch {
		case err != nil:
			s.pause(ctx, s.opts.Poll)
			continue
		case !ok: // streams read the log from where they are, or take a snapshot
			cursor = v.head
			s.changes.reset(v.head, v.beats)
			continue
		case v.place == behind:
			cursor = to
			s.changes.append(changes, to.Seq, v.beats)
			continue
		case v.place == held:
			cursor = to
			s.changes.append(changes, to.Seq, v.beats)
		}
		select {
		case <-ctx.Done():
		case <-v.changed:
		}
	}
}

// readChanges reads what follows after from the log, with its objects.
func (s *Service) readChanges(ctx context.Context, after keymanager.Position) ([]item[keymanager.Change], keymanager.Position, bool, error) {
	events, to, ok, err := s.readEvents(ctx, after)
	if err != nil || !ok {
		return nil, after, ok, err
	}
	changes, err := s.load(ctx, events)
	return changes, to, err == nil, err
}

// load returns the changes that events announce, with each object as it is
// now, which may be later than the event; a later event then repeats it. An
// object that is gone is a removal.
func (s *Service) load(ctx context.Context, events []item[store.LogEvent]) ([]item[keymanager.Change], error) {
	var out []item[keymanager.Change]
	apis := map[keymanager.APIID]keymanager.Change{}
	tiers := map[keymanager.TierRef]keymanager.Change{}
	for _, e := range events {
		var c keymanager.Change
		var known bool
		var err error
		switch {
		case e.value.API != "":
			if c, known = apis[e.value.API]; !known {
				c, err = s.loadAPI(ctx, e.value.API)
				apis[e.value.API] = c
			}
		case e.value.Tier != nil:
			if c, known = tiers[*e.value.Tier]; !known {
				c, err = s.loadTier(ctx, *e.value.Tier)
				tiers[*e.value.Tier] = c
			}
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, item[keymanager.Change]{seq: e.seq, value: c})
	}
	return out, nil
}

func (s *Service) loadAPI(ctx context.Context, id keymanager.APIID) (keymanager.Change, error) {
	var a *keymanager.API
	gone, err := s.object(ctx, "API "+string(id), func() (err error) {
		a, err = s.opts.Store.API(ctx, id)
		return err
	})
	if gone {
		return keymanager.Change{RemovedAPI: id}, nil
	}
	return keymanager.Change{API: a}, err
}

func (s *Service) loadTier(ctx context.Context, ref keymanager.TierRef) (keymanager.Change, error) {
	var t *keymanager.Tier
	gone, err := s.object(ctx, "tier "+string(ref.Name), func() (err error) {
		t, err = s.opts.Store.Tier(ctx, ref.Organization, ref.Name)
		return err
	})
	if gone {
		return keymanager.Change{RemovedTier: &ref}, nil
	}
	return keymanager.Change{Tier: t}, err
}

// tries is how often an object is read that the store finds unreadable. Many
// may be so at once, and the changes of all others wait.
const (
	tries    = 3
	tryAgain = time.Millisecond
)

// object reads one object and reports whether there is none. A row that cannot
// be read although the store answers must not stop the changes of all others:
// after some tries it counts as gone, as it does for a snapshot.
func (s *Service) object(ctx context.Context, what string, read func() error) (gone bool, err error) {
	for range tries {
		err = read()
		switch {
		case err == nil, ctx.Err() != nil, keymanager.KindOf(err) == keymanager.KindUnavailable:
			return false, err
		case keymanager.IsNotFound(err):
			return true, nil
		}
		s.pause(ctx, tryAgain)
	}
	s.opts.Logger.Error("a stored object cannot be read: gateways are told that it is gone", "object", what, "error", err)
	return true, nil
}
