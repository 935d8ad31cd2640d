package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// task is one part of the process: it runs until ctx ends, and then returns
// nil when all it has begun is done.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// every calls do once in a period, until ctx ends or do fails.
func every(ctx context.Context, period time.Duration, do func() error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := do(); err != nil {
				return err
			}
		}
	}
}

// runStages runs the tasks of all stages at once, until ctx ends or one fails.
// Then it ends them stage by stage, the last one first, and waits for each:
// who is served ends before who serves. It returns what failed first.
func runStages(ctx context.Context, stages ...[]task) error {
	failed := make(chan struct{}) // closed when the first error is in first
	var once sync.Once
	var first error
	fail := func(err error) {
		once.Do(func() { first = err; close(failed) })
	}
	groups := make([]errgroup.Group, len(stages))
	cancels := make([]context.CancelFunc, len(stages))
	for i, tasks := range stages {
		var stage context.Context
		stage, cancels[i] = context.WithCancel(context.WithoutCancel(ctx))
		defer cancels[i]()
		for _, t := range tasks {
			groups[i].Go(func() error {
				if err := t.run(stage); err != nil {
					err = fmt.Errorf("%s: %w", t.name, err)
					fail(err)
					return err
				}
				return nil
			})
		}
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	var late error
	for i := len(stages) - 1; i >= 0; i-- {
		cancels[i]()
		late = errors.Join(late, groups[i].Wait())
	}
	if first != nil {
		return first
	}
	return late
}

// newHTTPServer returns a server that slow clients do not hold up.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// Longer than applying a file, reading it and waiting for gateways; for
		// callers that do not take their answer.
		WriteTimeout:   5 * time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// httpTask serves h on l. When it ends, what has begun has the time drain.
func httpTask(name string, l net.Listener, h http.Handler, drain time.Duration, log *slog.Logger) task {
	return task{name, func(ctx context.Context) error {
		server := newHTTPServer(h, log)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := server.Shutdown(end); err != nil {
			_ = server.Close() // somebody does not come to an end
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}
}

// grpcTask serves g on every listener. Streams that never end, such as an
// Envoy's, are cut when the calls in flight have had their time.
func grpcTask(name string, g *grpc.Server, drain time.Duration, listeners ...net.Listener) task {
	return task{name, func(ctx context.Context) error {
		served := make(chan error, len(listeners))
		for _, l := range listeners {
			go func() {
				err := g.Serve(l)
				if errors.Is(err, grpc.ErrServerStopped) { // before it had begun
					err = nil
				}
				served <- err
			}()
		}
		left := len(listeners)
		var err error
		select {
		case err = <-served:
			left--
		case <-ctx.Done():
		}
		cut := time.AfterFunc(drain, g.Stop)
		defer cut.Stop()
		g.GracefulStop()
		for range left {
			err = errors.Join(err, <-served)
		}
		return err
	}}
}
