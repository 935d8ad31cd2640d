package keymanagertest

import (
	"context"
	"time"

	"tollgate/keymanager"
)

// sink turns the log into messages of one stream. snapshot and item are called
// with the lock held, what they return without it.
type sink struct {
	bare     func(keymanager.Mark) error                 // begin, end, heartbeat
	snapshot func() []func(keymanager.Mark) error        // everything there is
	item     func(e event) func(m keymanager.Mark) error // nil: not of this stream
}

// stream sends until ctx ends, a message is refused, or the stream is broken.
func (k *KeyManager) stream(ctx context.Context, contract string, from keymanager.Position, s sink) error {
	k.mu.Lock()
	k.streams[contract]++
	k.opened[contract]++
	generation, beats := k.generation, k.beats-1 // a first heartbeat at once
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.streams[contract]--
		k.mu.Unlock()
	}()
	var tick <-chan time.Time
	if k.opts.Heartbeat > 0 {
		t := time.NewTicker(k.opts.Heartbeat)
		defer t.Stop()
		tick = t.C
	}
	last := from
	for {
		k.mu.Lock()
		if k.down != nil || generation != k.generation {
			err := k.down
			k.mu.Unlock()
			if err == nil {
				err = keymanager.Errorf(keymanager.KindUnavailable, "the stream broke")
			}
			return err
		}
		var messages []func() error
		changed := k.changed
		if !k.muted {
			messages, last = k.messages(last, s, k.beats != beats)
			beats = k.beats
		}
		k.mu.Unlock()
		for _, send := range messages {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := send(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick:
			beats--
		}
	}
}

// messages returns what follows last: a snapshot if last is not in the log,
// else the events of the stream, and a heartbeat if the head is beyond them or
// if beat asks for one.
func (k *KeyManager) messages(last keymanager.Position, s sink, beat bool) (out []func() error, now keymanager.Position) {
	head := k.headLocked()
	add := func(send func(keymanager.Mark) error, typ keymanager.MessageType, at, after keymanager.Position) {
		out = append(out, func() error { return send(keymanager.Mark{Type: typ, At: at, After: after}) })
	}
	if last.Epoch != k.epoch || last.Seq < k.pruned || last.Seq > head.Seq {
		add(s.bare, keymanager.SnapshotBegin, head, head)
		for _, send := range s.snapshot() {
			add(send, keymanager.Item, head, head)
		}
		add(s.bare, keymanager.SnapshotEnd, head, head)
		return out, head
	}
	for i := last.Seq - k.pruned; i < uint64(len(k.events)); i++ {
		at := keymanager.Position{Epoch: k.epoch, Seq: k.pruned + i + 1}
		if send := s.item(k.events[i]); send != nil {
			add(send, keymanager.Item, at, last)
			last = at
		}
	}
	if last != head || beat {
		add(s.bare, keymanager.Heartbeat, head, last)
	}
	return out, head
}
