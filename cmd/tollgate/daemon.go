package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tollgate/keymanager"
)

// daemon is a server process: everything that it owns, from start to end.
type daemon struct {
	cfg   Config
	roles roles
	log   *slog.Logger
	logs  *logWriter // what log writes to; nil = directly
	state *State
	*system

	listeners
	opsServer   *http.Server
	identity    *certificates // who this process is among the others; nil = clear text
	https       *certificates // of the key manager; nil = clear text
	keys        *Keys
	credentials Credentials // of the built-in application
	ready       readiness
	stop        context.CancelFunc // ends run in good order
	stopped     context.Context
}

// newDaemon takes what the process needs, in an order that leaves nothing
// behind when something is missing: the state folder, the addresses, the keys
// and the database, and then the parts themselves. What other processes make
// or are, it waits for: meanwhile /readyz says what is missing.
func newDaemon(ctx context.Context, cfg Config, r roles, log *slog.Logger) (*daemon, error) {
	tuneMemory(r)
	d := &daemon{cfg: cfg, roles: r, log: log, system: &system{metrics: prometheus.NewRegistry()}}
	d.stopped, d.stop = context.WithCancel(context.Background())
	if err := d.open(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *daemon) open(ctx context.Context) (err error) {
	live := collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}
	d.metrics.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(live)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if d.state, err = openStateFor(d.cfg.State.Dir, d.roles); err != nil {
		return err
	}
	if err = d.loadCertificates(); err != nil {
		return err
	}
	if err = d.listen(ctx); err != nil {
		return err
	}
	d.serveOps()
	if d.keys, err = d.openKeys(ctx); err != nil {
		return err
	}
	if d.roles.keyManager {
		if err = d.openDatabase(ctx); err != nil {
			return err
		}
	}
	return d.wire() //nolint:contextcheck // what the parts begin ends with run, not with the start
}

// openDatabase opens the system of record, and waits for a PostgreSQL that does
// not answer yet, or in which another key manager is at work.
func (d *daemon) openDatabase(ctx context.Context) error {
	later := func(err error) bool {
		return d.cfg.Store.DSN != "" && keymanager.KindOf(err) == keymanager.KindUnavailable
	}
	err := d.await(ctx, "keymanager", func() (err error) {
		d.store, err = openStore(ctx, &d.cfg, d.state, d.log)
		return err
	}, later)
	if err != nil {
		return err
	}
	return d.await(ctx, "keymanager", func() (err error) {
		if err = checkRemembered(ctx, d.store, d.state.Path(fileLog)); err == nil {
			d.credentials, err = firstStart(ctx, d.store, d.keys, d.cfg.Keys, d.state, d.keyManagerURL(), d.log)
		}
		return err
	}, later)
}

// openKeys reads the key files. The tag key in the state folder is the key
// manager's to make: an authz that starts first waits for it.
func (d *daemon) openKeys(ctx context.Context) (*Keys, error) {
	if d.roles.keyManager {
		return loadKeys(d.cfg.Keys, d.state, rand.Reader)
	}
	if !d.roles.authz {
		return &Keys{}, nil
	}
	var keys *Keys
	err := d.await(ctx, "authz", func() (err error) {
		keys, err = loadTagKey(d.cfg.Keys, d.state)
		return err
	}, func(err error) bool { return errors.Is(err, errKeyNotMade) })
	return keys, err
}

// await calls try until it succeeds or fails for good. Meanwhile the process is
// not ready, and says why.
func (d *daemon) await(ctx context.Context, part string, try func() error, later func(error) bool) error {
	err := try()
	if err == nil || !later(err) {
		return err
	}
	done := d.ready.waiting(part, err)
	defer done(nil)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	said := time.Time{}
	for {
		if time.Since(said) > 5*time.Second {
			d.log.Warn("not ready yet", "missing", part+": "+err.Error())
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return errStopped
		case <-tick.C:
		}
		if err = try(); err == nil || !later(err) {
			return err
		}
		done(err)
	}
}

// errStopped ends a start that was told to stop before it was ready.
var errStopped = errors.New("stopped before it was ready")

// run runs everything, front last, until ctx ends or a part fails; up is called
// once, when the process is ready.
func (d *daemon) run(ctx context.Context, front []task, up func(context.Context) error) error {
	front = append(front, task{"start", func(ctx context.Context) error {
		if !d.waitReady(ctx) {
			return nil // the process ends before it was ready
		}
		return up(ctx)
	}})
	background := append([]task{{"ops", d.runOps}, {"sockets", d.keepSockets}}, d.background...)
	d.ready.set(true)
	ctx, cancel := d.draining(ctx)
	defer cancel()
	return runStages(ctx, background, d.serving, front)
}

// draining returns a context that ends some time after ctx has, or stop was
// called: the process is no longer ready, and serves on until those who watch
// its readiness send nobody any more.
func (d *daemon) draining(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		select {
		case <-ctx.Done():
		case <-d.stopped.Done():
		case <-later.Done():
			return
		}
		d.ready.set(false)
		if d.authz != nil {
			d.authz.Drain()
		}
		if wait := time.Duration(d.cfg.Ops.DrainWait); wait > 0 {
			d.log.Info("stopping: not ready any more, and serving on for a moment", "drain_wait", wait)
			select {
			case <-later.Done():
			case <-time.After(wait):
			}
		}
		cancel()
	}()
	return later, func() { cancel(); d.ready.set(false) }
}

// waitReady waits until nothing is missing. It says now and then what is.
func (d *daemon) waitReady(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		missing := d.ready.missing()
		if len(missing) == 0 {
			return true
		}
		if time.Since(said) > 5*time.Second {
			d.log.Warn("not ready yet", "missing", missing)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// close gives back what newDaemon has taken. Closing twice is harmless.
func (d *daemon) close() {
	d.stop()
	if d.opsServer != nil {
		_ = d.opsServer.Close()
	}
	for _, l := range d.all() {
		_ = l.Close()
	}
	for _, c := range d.closers {
		_ = c.Close()
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Error("closing the database", "error", err)
		}
	}
	if d.state != nil {
		_ = d.state.Close()
	}
}

// serveOps answers at the ops address from the start on: what is missing is
// most interesting before the process is ready.
func (d *daemon) serveOps() {
	d.opsServer = newHTTPServer(newOps(&d.ready, d.metrics), d.log)
	go func() {
		if err := d.opsServer.Serve(d.opsListener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			d.log.Error("the ops address is not served any more", "error", err)
		}
	}()
}

// runOps ends the server of the ops address with the rest of the background.
func (d *daemon) runOps(ctx context.Context) error {
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := d.opsServer.Shutdown(drain); err != nil {
		_ = d.opsServer.Close()
	}
	return nil
}
