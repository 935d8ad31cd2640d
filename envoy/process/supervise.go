package process

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"time"
)

// SuperviseOptions describe an Envoy that is kept running.
type SuperviseOptions struct {
	Options
	// Started is called after each start, with a context that ends with this
	// Envoy. It runs on a goroutine of its own and is awaited before the next
	// start.
	Started func(ctx context.Context, p *Process)
	Logger  *slog.Logger // nil = nothing is logged
	// MinBackoff and MaxBackoff bound the wait before a restart, which doubles
	// with each Envoy that lived for less than a minute; 0 = 100 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
}

// Supervise starts Envoy, starts it again when it ends, and stops it when ctx
// ends: then it returns nil. The only other end is a first Envoy that ends by
// itself (not by a signal) before it was ready: what it was started with is
// wrong, and will not get better.
func Supervise(ctx context.Context, opts SuperviseOptions) error {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MinBackoff == 0 {
		opts.MinBackoff = 100 * time.Millisecond
	}
	if opts.MaxBackoff == 0 {
		opts.MaxBackoff = 5 * time.Second
	}
	wait, proven := opts.MinBackoff, false
	for {
		begun := time.Now()
		ready, err := once(ctx, opts)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was to end
		}
		proven = proven || ready
		if !proven && !killed(err) {
			return err
		}
		if time.Since(begun) > time.Minute {
			wait = opts.MinBackoff
		}
		opts.Logger.Error("Envoy is started again", "after", wait, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, opts.MaxBackoff)
	}
}

// once runs one Envoy to its end, and reports whether it ever was ready.
func once(ctx context.Context, opts SuperviseOptions) (ready bool, err error) {
	p, err := Start(opts.Options)
	if err != nil {
		return false, err
	}
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	defer p.Stop()
	became := make(chan bool, 1)
	go func() { became <- p.Ready(alive) == nil }()
	started := make(chan struct{})
	go func() {
		defer close(started)
		if opts.Started != nil {
			opts.Started(alive, p)
		}
	}()
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop()
	}
	cancel()
	<-started
	return <-became, p.Err()
}

// killed reports whether Envoy was ended from outside.
func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == -1
}
