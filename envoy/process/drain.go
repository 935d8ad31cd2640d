package process

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// DrainOptions say how long each step of Drain may take.
type DrainOptions struct {
	// Balancer is how long the load balancers in front need to notice that
	// /ready and /healthz say 503. Until then new connections are served.
	Balancer time.Duration
	// Rest is how long to wait for the last request, after the ports were
	// closed or while they are being closed: Envoy's --drain-time-s and the
	// longest request.
	Rest time.Duration
	// Said takes a line for each step; nil = nobody.
	Said func(step string)
}

// Drain takes an Envoy out of service without cutting a request, in the order
// that Envoy needs: its health checks fail (every answer then says "connection:
// close"), the balancers look away, its listeners drain and close, the last
// request ends. Envoy still runs afterwards: a SIGTERM now cuts nobody, where
// alone it would cut every request at once.
//
// If requests are left after opts.Rest, the error says how many. It needs
// /healthcheck, /drain_listeners and /stats of the admin interface.
func (a *Admin) Drain(ctx context.Context, opts DrainOptions) error {
	if opts.Said == nil {
		opts.Said = func(string) {}
	}
	if err := a.order(ctx, "/healthcheck/fail"); err != nil {
		return err
	}
	opts.Said(fmt.Sprintf("health checks fail; waiting %s for the load balancers", opts.Balancer))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(opts.Balancer):
	}
	// Without graceful the ports would close at once, and with skip_exit never.
	if err := a.order(ctx, "/drain_listeners?graceful"); err != nil {
		return err
	}
	opts.Said(fmt.Sprintf("listeners drain; waiting up to %s for the last connection", opts.Rest))
	return a.quiet(ctx, opts)
}

// quiet waits until no client is connected.
func (a *Admin) quiet(ctx context.Context, opts DrainOptions) error {
	ctx, cancel := context.WithTimeout(ctx, opts.Rest)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	left := "Envoy has not said how many"
	for {
		connections, requests, err := a.active(ctx)
		switch {
		case err == nil && connections == 0 && requests == 0:
			opts.Said("no connection is left: stop Envoy (SIGTERM)")
			return nil
		case err == nil:
			left = fmt.Sprintf("%d requests on %d connections", requests, connections)
		case ctx.Err() == nil:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not everything has ended: %s are left: %w", left, ctx.Err())
		case <-tick.C:
		}
	}
}

// active counts clients' connections and requests, without those of the admin
// interface.
func (a *Admin) active(ctx context.Context) (connections, requests uint64, err error) {
	const path = `/stats?format=json&filter=^http\..*\.downstream_(cx|rq)_active$`
	status, body, err := a.Get(ctx, path)
	if err != nil {
		return 0, 0, err
	}
	var doc struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"stats"`
	}
	if status != http.StatusOK {
		return 0, 0, fmt.Errorf("admin /stats: status %d", status)
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return 0, 0, fmt.Errorf("admin /stats: %w", err)
	}
	for _, s := range doc.Stats {
		var n uint64
		if strings.HasPrefix(s.Name, "http.admin.") || json.Unmarshal(s.Value, &n) != nil {
			continue
		}
		if strings.HasSuffix(s.Name, "rq_active") {
			requests += n
		} else {
			connections += n
		}
	}
	return connections, requests, nil
}

// order calls POST path and wants a 200.
func (a *Admin) order(ctx context.Context, path string) error {
	status, body, err := a.Post(ctx, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", status, body)
	}
	if err != nil {
		return fmt.Errorf("admin %s: %w", path, err)
	}
	return nil
}
