package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/publish"
)

// quick are options under which what comes with time comes soon.
func quick(m *memory) publish.Options {
	return publish.Options{Store: m, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Heartbeat: 5 * time.Millisecond, Poll: 5 * time.Millisecond, Keep: 16, PruneEvery: 5 * time.Millisecond}
}

// wakesOnly are options under which nothing comes with time.
func wakesOnly(m *memory) publish.Options {
	o := quick(m)
	o.Heartbeat, o.Poll, o.PruneEvery = time.Hour, time.Hour, time.Hour
	return o
}

// start runs a service until the test ends, or stop is called.
func start(t testing.TB, o publish.Options) (s *publish.Service, stop func()) {
	t.Helper()
	s, err := publish.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(t, s)
}

func run(t testing.TB, s *publish.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// receiver is one stream as text: "begin@3", "api a@4", "stale@5", "beat@6".
// Its cursor refuses gaps.
type receiver struct {
	stop   func()
	ended  chan struct{}
	err    error
	cursor keymanager.Cursor

	mu   sync.Mutex
	got  []string
	last keymanager.Mark
	hold chan struct{} // if set, each message waits until it is closed
}

func (r *receiver) take(m keymanager.Mark, what string) error {
	r.mu.Lock()
	if err := r.cursor.Accept(m); err != nil {
		r.mu.Unlock()
		return err
	}
	switch m.Type {
	case keymanager.SnapshotBegin:
		what = "begin"
	case keymanager.SnapshotEnd:
		what = "end"
	case keymanager.Heartbeat:
		what = "beat"
	}
	r.got, r.last = append(r.got, fmt.Sprintf("%s@%d", what, m.At.Seq)), m
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return nil
}

func (r *receiver) text() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// eventually polls ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

func (r *receiver) await(t testing.TB, what string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !slices.Contains(r.text(), what); time.Sleep(time.Millisecond) {
		select {
		case <-r.ended:
			if !slices.Contains(r.text(), what) {
				t.Fatalf("the stream ended (%v) before %s: %v", r.err, what, r.text())
			}
		default:
		}
		if time.Now().After(deadline) {
			text := r.text()
			t.Fatalf("no %s: %v", what, text[max(0, len(text)-20):])
		}
	}
}

// end waits for the stream to end by itself.
func (r *receiver) end(t testing.TB) error {
	t.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(30 * time.Second):
		t.Fatalf("the stream does not end: %v", r.text())
		return nil
	}
}

func (r *receiver) has(prefix string) bool {
	return slices.ContainsFunc(r.text(), func(s string) bool { return len(s) > len(prefix) && s[:len(prefix)+1] == prefix+"@" })
}

// open starts a stream; a position other than zero is one that a snapshot came
// to before.
func open(t testing.TB, from keymanager.Position, hold chan struct{}, run func(context.Context, *receiver) error) *receiver {
	t.Helper()
	r := &receiver{ended: make(chan struct{}), hold: hold}
	if from != (keymanager.Position{}) {
		for _, typ := range []keymanager.MessageType{keymanager.SnapshotBegin, keymanager.SnapshotEnd} {
			if err := r.cursor.Accept(keymanager.Mark{Type: typ, At: from, After: from}); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		r.err = run(ctx, r)
	}()
	r.stop = func() {
		cancel()
		<-r.ended
	}
	t.Cleanup(r.stop)
	return r
}

func watch(t testing.TB, s *publish.Service, from keymanager.Position, hold chan struct{}) *receiver {
	t.Helper()
	return open(t, from, hold, func(ctx context.Context, r *receiver) error {
		return s.Watch(ctx, from, []keymanager.CatalogKind{keymanager.CatalogAPI, keymanager.CatalogTier}, func(c keymanager.Change) error {
			what := "none"
			switch {
			case c.API != nil:
				what = "api " + string(c.API.ID)
			case c.RemovedAPI != "":
				what = "no api " + string(c.RemovedAPI)
			case c.RemovedTier != nil:
				what = "no tier " + string(c.RemovedTier.Name)
			}
			return r.take(c.Mark, what)
		})
	})
}

func follow(t testing.TB, s *publish.Service, from keymanager.Position) *receiver {
	t.Helper()
	return open(t, from, nil, func(ctx context.Context, r *receiver) error {
		return s.Follow(ctx, from, func(e keymanager.Event) error {
			what := "stale"
			if e.Dead != nil {
				what = "dead"
			}
			return r.take(e.Mark, what)
		})
	})
}
