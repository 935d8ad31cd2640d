package sqlstore

import (
	"context"
	"log/slog"
	"sync"
)

// wakes hands every hint that there is something new in the log to all who
// asked for one: of this store's own commits, and of those of other processes
// once somebody asks.
type wakes struct {
	listen func(context.Context, func()) error
	log    *slog.Logger
	stop   context.CancelFunc
	ended  chan struct{} // closed when the listener has ended; nil before it starts

	mu     sync.Mutex
	closed bool
	sinks  map[chan struct{}]func() bool // channel → stops its watch on the context
}

func newWakes(listen func(context.Context, func()) error, log *slog.Logger) *wakes {
	return &wakes{listen: listen, log: log, sinks: map[chan struct{}]func() bool{}}
}

// wake puts a hint into every channel that has none.
func (w *wakes) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.sinks {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// channel returns a channel of hints that is closed when ctx or the store ends.
func (w *wakes) channel(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		close(c)
		return c
	}
	w.sinks[c] = context.AfterFunc(ctx, func() { w.drop(c) })
	if w.ended == nil {
		w.start() //nolint:contextcheck // it listens for all who ask, until the store is closed
	}
	return c
}

func (w *wakes) drop(c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.sinks[c]; ok {
		delete(w.sinks, c)
		close(c)
	}
}

// start runs the listener until the store is closed.
func (w *wakes) start() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.ended = stop, make(chan struct{})
	go func() {
		defer close(w.ended)
		if err := w.listen(ctx, w.wake); err != nil {
			w.log.Error("not woken by other processes any more", "error", err)
		}
	}()
}

func (w *wakes) close() {
	w.mu.Lock()
	w.closed = true
	for c, stop := range w.sinks {
		stop()
		delete(w.sinks, c)
		close(c)
	}
	ended := w.ended
	w.mu.Unlock()
	if ended != nil {
		w.stop()
		<-ended
	}
}
