package publish

import (
	"context"

	"tollgate/keymanager"
)

// source is where a stream takes its messages from.
type source[T any] struct {
	feed *feed[T]
	head func(context.Context) (keymanager.Position, error) // of the log itself
	// read returns what follows after in the log, and how far that goes; false
	// if the log no longer holds it.
	read func(ctx context.Context, after keymanager.Position) (items []item[T], to keymanager.Position, ok bool, err error)
	// snapshot returns everything there is, at least as new as at, which the
	// feed has reached.
	snapshot func(context.Context) (at keymanager.Position, all []T, err error)
	wants    func(T) bool
	send     func(keymanager.Mark, T) error // the zero T for a bare mark
}

// stream sends what follows from until ctx ends, a message is refused or the
// source ends.
func stream[T any](ctx context.Context, from keymanager.Position, src source[T]) error {
	s := sender[T]{source: src, last: from}
	cursor := from         // the log has been looked at up to here
	beats := ^uint64(0)    // of the last heartbeat sent: a first one comes at once
	for ctx.Err() == nil { // held, behind and snapshots come around again
		v := src.feed.view(cursor)
		switch v.place {
		case ended:
			return keymanager.Errorf(keymanager.KindUnavailable, "publish: stopped")
		case held:
			if err := s.items(ctx, v.items); err != nil {
				return err
			}
			cursor = v.head
			// Also when only events of other streams came: the receiver then
			// knows that it has seen all up to the head.
			if s.last != v.head || beats != v.beats {
				if err := s.bare(ctx, keymanager.Heartbeat, v.head, s.last); err != nil {
					return err
				}
				beats = v.beats
			}
		case behind:
			items, to, ok, err := src.read(ctx, cursor)
			if err != nil {
				return unavailable(ctx, "the log", err)
			}
			if ok {
				if err := s.items(ctx, items); err != nil {
					return err
				}
				cursor = to
				continue
			}
			if cursor, err = s.snapshot(ctx); err != nil {
				return err
			}
			continue
		case ahead: // of this reader of the log, or of the log?
			head, err := src.head(ctx)
			if err != nil {
				return unavailable(ctx, "the log", err)
			}
			if !head.Reached(cursor) {
				if cursor, err = s.snapshot(ctx); err != nil {
					return err
				}
				continue
			}
		case foreign:
			var err error
			if cursor, err = s.snapshot(ctx); err != nil {
				return err
			}
			continue
		case unloaded:
		}
		select {
		case <-ctx.Done():
		case <-v.changed:
		}
	}
	return ctx.Err()
}

// sender marks messages with their place in the stream.
type sender[T any] struct {
	source[T]
	last keymanager.Position // At of the message before
}

func (s *sender[T]) bare(ctx context.Context, t keymanager.MessageType, at, after keymanager.Position) error {
	var none T
	return s.message(ctx, keymanager.Mark{Type: t, At: at, After: after}, none)
}

func (s *sender[T]) message(ctx context.Context, m keymanager.Mark, value T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.send(m, value); err != nil {
		return err
	}
	s.last = m.At
	return nil
}

// items sends those of the stream.
func (s *sender[T]) items(ctx context.Context, list []item[T]) error {
	for _, it := range list {
		if !s.wants(it.value) {
			continue
		}
		at := keymanager.Position{Epoch: s.last.Epoch, Seq: it.seq}
		if err := s.message(ctx, keymanager.Mark{Type: keymanager.Item, At: at, After: s.last}, it.value); err != nil {
			return err
		}
	}
	return nil
}

// snapshot sends everything, and returns the position from which to go on.
func (s *sender[T]) snapshot(ctx context.Context) (keymanager.Position, error) {
	at, all, err := s.source.snapshot(ctx)
	if err != nil {
		return at, unavailable(ctx, "a snapshot", err)
	}
	if err := s.bare(ctx, keymanager.SnapshotBegin, at, at); err != nil {
		return at, err
	}
	for _, value := range all {
		if !s.wants(value) {
			continue
		}
		if err := s.message(ctx, keymanager.Mark{Type: keymanager.Item, At: at, After: at}, value); err != nil {
			return at, err
		}
	}
	return at, s.bare(ctx, keymanager.SnapshotEnd, at, at)
}
