package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// A process that runs authz alone is restarted without a refused call: the
// next one starts beside it, listens beside its socket, loads what it needs,
// and puts its socket in the place of the other. That one notices, finishes
// what it has begun, and ends.

// settle is how long a process that was replaced still accepts: who was just
// connecting to its socket is in its queue.
const settle = 250 * time.Millisecond

// mayTakeOver reports whether this process may replace a living one: nothing
// but the socket is between them.
func (d *daemon) mayTakeOver() bool { return d.roles == roles{authz: true} }

// takesOver reports whether this process waits to replace another one.
func (d *daemon) takesOver() bool {
	s, ok := d.authzListener.(*unixSocket)
	return ok && !s.taken.Load()
}

// holdSocket takes the socket over when this process is ready, and ends the
// process when another one has taken it.
func (d *daemon) holdSocket(ctx context.Context, s *unixSocket) error {
	if !s.taken.Load() {
		d.log.Info("another process serves the socket; this one takes over as soon as it is ready", "socket", s.path)
		if !d.waitReady(ctx) {
			return nil
		}
		if err := s.take(); err != nil {
			return err
		}
		d.log.Info("took the socket over", "socket", s.path)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !s.replaced() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	d.log.Info("another process has taken the socket over; this one finishes what it has begun", "socket", s.path)
	select {
	case <-ctx.Done():
	case <-time.After(settle):
	}
	d.stop()
	return nil
}

// lateListener gets its address when its predecessor gives it up.
type lateListener struct {
	what, address string
	log           *slog.Logger

	mu     sync.Mutex
	l      net.Listener
	closed bool
	done   chan struct{}
}

// Accept waits for the address, and then for a connection.
func (l *lateListener) Accept() (net.Conn, error) {
	for waits := false; ; waits = true {
		inner, err := l.open()
		if err == nil {
			return inner.Accept()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		if !waits {
			l.log.Info("the address is still the predecessor's; waiting for it", "part", l.what, "address", l.address)
		}
		select {
		case <-l.done:
			return nil, net.ErrClosed
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *lateListener) open() (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if l.l != nil {
		return l.l, nil
	}
	var lc net.ListenConfig
	inner, err := lc.Listen(context.Background(), "tcp", l.address)
	if err == nil {
		l.l = inner
	}
	return inner, err
}

// Close ends the listener, or the wait for its address.
func (l *lateListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	if l.l == nil {
		return nil
	}
	return l.l.Close()
}

// Addr returns the address, also before it has it.
func (l *lateListener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.l != nil {
		return l.l.Addr()
	}
	return lateAddr(l.address)
}

// lateAddr is a TCP address as it was configured.
type lateAddr string

// Network implements net.Addr.
func (lateAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a lateAddr) String() string { return string(a) }
