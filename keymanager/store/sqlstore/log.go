package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// headRow is the head of the log as it is stored.
type headRow struct {
	epoch []byte
	seq   int64
}

func (h *headRow) position() (keymanager.Position, error) {
	var p keymanager.Position
	if len(h.epoch) != len(p.Epoch) || h.seq < 0 {
		return p, errors.New("the head of the log is damaged")
	}
	copy(p.Epoch[:], h.epoch)
	p.Seq = uint64(h.seq)
	return p, nil
}

// Append adds events to the running transaction.
func (s *Store) Append(_ context.Context, events ...store.LogEvent) error {
	if s.tx == nil {
		return errors.New("an event was appended outside of a transaction")
	}
	return s.tx.add(events...)
}

// Head reads the position of the last event.
func (s *Store) Head(ctx context.Context) (keymanager.Position, error) {
	var h headRow
	if err := s.q.QueryRow(ctx, `SELECT epoch, seq FROM log_head`).Scan(&h.epoch, &h.seq); err != nil {
		return keymanager.Position{}, failure(err)
	}
	return h.position()
}

// Oldest reads the number after the last one pruned.
func (s *Store) Oldest(ctx context.Context) (uint64, error) {
	var pruned int64
	if err := s.q.QueryRow(ctx, `SELECT pruned FROM log_head`).Scan(&pruned); err != nil {
		return 0, failure(err)
	}
	return uint64(pruned) + 1, nil
}

// Events reads events after seq. One that cannot be read is as one that is
// pruned: nothing may be passed over. Of those that are pruned some may be left
// (see Prune): what does not follow its predecessor is not answered.
func (s *Store) Events(ctx context.Context, after uint64, limit int) ([]store.LogEvent, error) {
	from := int64(min(after, math.MaxInt64))
	events, err := all(ctx, s.q, func(r db.Row, e *store.LogEvent) error {
		var seq int64
		var kind, body string
		if err := r.Scan(&seq, &kind, &body); err != nil {
			return err
		}
		var err error
		if *e, err = decodeEvent(uint64(seq), kind, body); err != nil {
			s.log.ErrorContext(ctx, "stored event cannot be read: gateways start again from a snapshot", "seq", seq, "error", err)
			e.Seq = 0 // a gap
		}
		return nil
	}, `SELECT seq, kind, CAST(body AS TEXT) FROM log_event WHERE seq > $1 ORDER BY seq LIMIT $2`, from, limit)
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		if e.Seq != after+1+uint64(i) {
			return nil, pruned(after)
		}
	}
	if len(events) == 0 { // nothing newer, or nothing left of it
		oldest, err := s.Oldest(ctx)
		if err != nil {
			return nil, err
		}
		if oldest > after+1 {
			return nil, pruned(after)
		}
	}
	return events, nil
}

func pruned(after uint64) error {
	return keymanager.Errorf(keymanager.KindPrecondition, "the log is pruned after %d", after)
}

// deadBatch is how many Dead entries are read at a time: there can be very many,
// and no statement may run long.
const deadBatch = 10_000

// LiveDead reads the Dead entries that still matter at t, in order. Those that
// are appended meanwhile may be among them, or not.
func (s *Store) LiveDead(ctx context.Context, t time.Time) ([]keymanager.Dead, error) {
	var dead []keymanager.Dead
	for last, rows := int64(0), deadBatch; rows == deadBatch; {
		rows = 0
		err := s.q.Query(ctx, func(r db.Row) error {
			var body string
			if err := r.Scan(&last, &body); err != nil {
				return err
			}
			rows++
			e, err := decodeEvent(uint64(last), kindDead, body)
			if err != nil { // what it ended is refused all the same when it is looked up
				s.log.ErrorContext(ctx, "stored event cannot be read, and is left out", "seq", last, "error", err)
				return nil
			}
			dead = append(dead, *e.Dead)
			return nil
		}, `SELECT seq, CAST(body AS TEXT) FROM log_event
			WHERE kind = 'dead' AND seq > $2 AND (expires_at IS NULL OR expires_at > $1) ORDER BY seq LIMIT $3`, ms(t), last, deadBatch)
		if err != nil {
			return nil, failure(err)
		}
	}
	return dead, nil
}

// Prune removes events up to seq. That can take a while, so the head, which every
// writer of an event needs, is locked only at the end.
func (s *Store) Prune(ctx context.Context, seq uint64, t time.Time) error {
	return s.write(ctx, func(s *Store) error {
		if s.postgres { // one at a time: another key manager prunes as well as this one
			var mine bool
			err := s.q.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended('tollgate prune ' || current_schema(), 0))`).Scan(&mine)
			if err != nil || !mine {
				return failure(err)
			}
		}
		upTo := int64(min(seq, math.MaxInt64))
		_, err := s.q.Exec(ctx, `DELETE FROM log_event WHERE seq <= (SELECT CASE WHEN pruned < $1 THEN $1 ELSE pruned END FROM log_head)
			AND (kind <> 'dead' OR expires_at <= $2)`, upTo, ms(t))
		if err != nil {
			return failure(err)
		}
		s.tx.AtCommit(nil, `UPDATE log_head SET pruned = CASE WHEN seq < $1 THEN seq ELSE $1 END WHERE pruned < $1`, upTo)
		return nil
	})
}

// NewEpoch starts a new line of history: after a restore from a backup the
// numbers of the log are given again, and no follower may take them for those
// it has seen. Followers answer with a snapshot.
func (s *Store) NewEpoch(ctx context.Context) (keymanager.Epoch, error) {
	var e keymanager.Epoch
	if _, err := io.ReadFull(s.rand, e[:]); err != nil {
		return keymanager.Epoch{}, fmt.Errorf("new epoch: %w", err)
	}
	err := s.write(ctx, func(s *Store) error {
		_, err := s.q.Exec(ctx, `UPDATE log_head SET epoch = $1`, e[:])
		s.tx.NotifyAtCommit()
		return failure(err)
	})
	if err != nil {
		return keymanager.Epoch{}, err
	}
	s.wakes.wake()
	return e, nil
}

// Wake returns a channel that receives after commits that appended events.
func (s *Store) Wake(ctx context.Context) (<-chan struct{}, error) { return s.wakes.channel(ctx), nil }
