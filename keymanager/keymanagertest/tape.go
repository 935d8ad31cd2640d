package keymanagertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
)

// patience is how long a test waits for what must happen. Nothing is promised
// to take that long.
const patience = 30 * time.Second

// tape records a stream, and checks every mark on it with a Cursor.
type tape[M any] struct {
	stop func() error // ends the stream and returns how it ended
	mark func(M) keymanager.Mark

	mu      sync.Mutex
	cursor  keymanager.Cursor
	all     []M
	calls   int           // under way
	changed chan struct{} // closed and replaced with each message
	ended   chan struct{}
	err     error
}

var errOverlap = errors.New("fn was called while it ran")

// record starts a stream, which ends with the test.
func record[M any](t testing.TB, from keymanager.Position, mark func(M) keymanager.Mark,
	open func(ctx context.Context, from keymanager.Position, fn func(M) error) error, also func(M) error) *tape[M] {
	t.Helper()
	p := &tape[M]{mark: mark, changed: make(chan struct{}), ended: make(chan struct{})}
	if from != (keymanager.Position{}) { // as if a snapshot had come before
		for _, typ := range []keymanager.MessageType{keymanager.SnapshotBegin, keymanager.SnapshotEnd} {
			if err := p.cursor.Accept(keymanager.Mark{Type: typ, At: from, After: from}); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(p.ended)
		p.err = open(ctx, from, func(m M) error {
			if err := p.take(m); err != nil {
				return err
			}
			var err error
			if also != nil {
				err = also(m)
			}
			p.mu.Lock()
			p.calls--
			p.mu.Unlock()
			return err
		})
	}()
	p.stop = func() error {
		cancel()
		<-p.ended
		return p.err
	}
	t.Cleanup(func() { _ = p.stop() })
	return p
}

func (p *tape[M]) take(m M) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls++; p.calls > 1 {
		return errOverlap
	}
	if err := p.cursor.Accept(p.mark(m)); err != nil {
		return err
	}
	p.all = append(p.all, m)
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// messages returns what came so far.
func (p *tape[M]) messages() []M {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// await returns what came as soon as it is ok.
func (p *tape[M]) await(t testing.TB, what string, ok func([]M) bool) []M {
	t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		all, changed := slices.Clone(p.all), p.changed
		p.mu.Unlock()
		if ok(all) {
			return all
		}
		select {
		case <-changed:
		case <-p.ended:
			if all := p.messages(); ok(all) {
				return all
			}
			t.Fatalf("the stream ended (%v) before %s; it had sent %s", p.err, what, p.marks(all))
		case <-deadline:
			t.Fatalf("no %s within %v; sent: %s", what, patience, p.marks(all))
		}
	}
}

// marks describes the last messages of all for a failure.
func (p *tape[M]) marks(all []M) string {
	var b strings.Builder
	if more := len(all) - 20; more > 0 {
		fmt.Fprintf(&b, "(%d messages) ", more)
		all = all[more:]
	}
	for _, m := range all {
		mark := p.mark(m)
		fmt.Fprintf(&b, "%s@%d ", [...]string{"?", "begin", "end", "item", "heartbeat"}[min(mark.Type, 4)], mark.At.Seq)
	}
	return b.String()
}

// reached waits until the stream has come to pos, or beyond it.
func (p *tape[M]) reached(t testing.TB, pos keymanager.Position) []M {
	t.Helper()
	return p.await(t, "message at "+pos.String(), func(all []M) bool {
		return len(all) > 0 && !inSnapshot(p, all) && p.mark(all[len(all)-1]).At.Reached(pos)
	})
}

func inSnapshot[M any](p *tape[M], all []M) bool {
	for _, m := range slices.Backward(all) {
		switch p.mark(m).Type {
		case keymanager.SnapshotBegin:
			return true
		case keymanager.SnapshotEnd:
			return false
		}
	}
	return false
}

// end waits for the stream to end by itself and returns why.
func (p *tape[M]) end(t testing.TB) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		t.Fatal("the stream does not end")
		return nil
	}
}

// count returns how many messages of a type there are.
func (p *tape[M]) count(all []M, typ keymanager.MessageType) int {
	n := 0
	for _, m := range all {
		if p.mark(m).Type == typ {
			n++
		}
	}
	return n
}

// items returns the items in all.
func (p *tape[M]) items(all []M) []M {
	return slices.DeleteFunc(slices.Clone(all), func(m M) bool { return p.mark(m).Type != keymanager.Item })
}
