package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// poll is how often an Envoy that is not ready is asked. It starts in about
// 35 ms.
const poll = 10 * time.Millisecond

// Admin returns the client of Envoy's admin interface, once Envoy has written
// down its address.
func (p *Process) Admin(ctx context.Context) (*Admin, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		// Envoy writes the file in one go, but not atomically with its creation.
		if b, err := os.ReadFile(p.files[1]); err == nil && len(b) > 0 {
			return NewAdmin(strings.TrimSpace(string(b))), nil
		}
		select {
		case <-p.done:
			return nil, p.ended()
		case <-ctx.Done():
			return nil, fmt.Errorf("envoy has not opened its admin interface: %w%s", ctx.Err(), p.lastLines())
		case <-tick.C:
		}
	}
}

// Ready waits until Envoy serves: its state is LIVE and it listens on every
// listener named. The error says what it still waits for, or how it ended, with
// the last lines of its log.
func (p *Process) Ready(ctx context.Context, listeners ...string) error {
	admin, err := p.Admin(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	missing := "it has not answered yet"
	for {
		said, ok := waitsFor(ctx, admin, listeners)
		if ok {
			return nil
		}
		if ctx.Err() == nil { // else the question was cut short: keep the last answer
			missing = said
		}
		select {
		case <-p.done:
			return p.ended()
		case <-ctx.Done():
			return fmt.Errorf("envoy is not ready: %s: %w%s", missing, ctx.Err(), p.lastLines())
		case <-tick.C:
		}
	}
}

// waitsFor says what is missing, in words for the operator.
func waitsFor(ctx context.Context, admin *Admin, listeners []string) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	state, err := admin.State(ctx)
	if err != nil {
		return "its admin interface does not answer: " + err.Error(), false
	}
	if state != "LIVE" {
		missing := "its state is " + state
		_, body, err := admin.Get(ctx, "/stats?filter=^control_plane.connected_state$")
		if err == nil && strings.HasSuffix(strings.TrimSpace(string(body)), ": 0") {
			missing += ", it has no connection to xds"
		}
		return missing, false
	}
	if len(listeners) == 0 {
		return "", true
	}
	have, err := admin.Listeners(ctx)
	if err != nil {
		return "it does not list its listeners: " + err.Error(), false
	}
	for _, name := range listeners {
		if _, ok := have[name]; !ok {
			return "it does not listen on " + name, false
		}
	}
	return "", true
}

// ended is the error of a wait that was cut short by the end of Envoy.
func (p *Process) ended() error {
	if err := p.Err(); err != nil {
		return err
	}
	return errors.New("envoy was stopped")
}
