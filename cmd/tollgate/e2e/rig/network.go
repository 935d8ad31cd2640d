package rig

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Link is a TCP address that leads to another, until it is cut.
type Link struct {
	t       testing.TB
	address string
	dial    func(context.Context) (net.Conn, error)

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	wait     sync.WaitGroup
}

// NewLink opens a link to what dial reaches.
func NewLink(t testing.TB, dial func(context.Context) (net.Conn, error)) *Link {
	t.Helper()
	l := &Link{t: t, address: "127.0.0.1:0", dial: dial, conns: map[net.Conn]bool{}}
	l.Heal()
	t.Cleanup(l.Cut)
	return l
}

// Address returns host:port.
func (l *Link) Address() string { return l.address }

// Cut closes the address and every connection.
func (l *Link) Cut() {
	l.mu.Lock()
	if l.listener != nil {
		_ = l.listener.Close()
		l.listener = nil
	}
	for c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.wait.Wait()
}

// Heal opens the same address again.
func (l *Link) Heal() {
	l.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", l.address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.listener, l.address = listener, listener.Addr().String()
	l.mu.Unlock()
	l.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				l.wait.Go(func() { l.join(listener, conn) })
			}
		}
	})
}

// join carries bytes both ways until either end closes.
func (l *Link) join(listener net.Listener, near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := l.dial(context.Background())
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !l.keep(listener, near, far) {
		return
	}
	defer l.forget(near, far)
	l.wait.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
}

// keep remembers connections for Cut; false if that has been.
func (l *Link) keep(listener net.Listener, conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != listener {
		return false
	}
	for _, c := range conns {
		l.conns[c] = true
	}
	return true
}

func (l *Link) forget(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		delete(l.conns, c)
	}
}
