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

// drainTime is how long a server may take to finish what it has begun when the
// process ends.
const drainTime = 5 * time.Second

// task is one part of the process: it runs until ctx ends, and then returns
// nil when all it has begun is done.
type task struct {
	name string
	run  func(ctx context.Context) error
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

// httpTask serves h on l.
func httpTask(name string, l net.Listener, h http.Handler, log *slog.Logger) task {
	return task{name, func(ctx context.Context) error {
		server := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			_ = server.Close() // somebody does not come to an end
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}
}

// grpcTask serves g on l. Streams that never end, such as an Envoy's, are cut
// when the calls in flight have had their time.
func grpcTask(name string, l net.Listener, g *grpc.Server, drain time.Duration) task {
	return task{name, func(ctx context.Context) error {
		served := make(chan error, 1)
		go func() { served <- g.Serve(l) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		cut := time.AfterFunc(drain, g.Stop)
		defer cut.Stop()
		g.GracefulStop()
		return <-served
	}}
}
