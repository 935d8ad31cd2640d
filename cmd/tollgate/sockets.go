package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
)

// listenUnix listens on a Unix socket. A socket that answers belongs to
// somebody; one that does not is left over and is replaced in one step, so
// that Envoy never finds the path empty.
func listenUnix(ctx context.Context, what, path string) (net.Listener, error) {
	if answers(ctx, path) {
		return nil, fmt.Errorf("%s: another process answers on %s; stop it first", what, path)
	}
	s, err := bindUnix(ctx, what, path)
	if err != nil {
		return nil, err
	}
	if err := s.take(); err != nil {
		_ = s.Listener.Close()
		return nil, err
	}
	return s, nil
}

// listenUnixNext is listenUnix for a successor: while another process answers at
// the path it listens beside it, until take puts it there.
func listenUnixNext(ctx context.Context, what, path string) (net.Listener, error) {
	if !answers(ctx, path) {
		return listenUnix(ctx, what, path)
	}
	if answers(ctx, path+freshSuffix) {
		return nil, fmt.Errorf("%s: a process serves %s, and another one is about to take over from it; wait for that", what, path)
	}
	s, err := bindUnix(ctx, what, path)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// freshSuffix is behind the path of a socket until it takes its place.
const freshSuffix = ".new"

// answers reports whether somebody listens on a socket.
func answers(ctx context.Context, path string) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// bindUnix listens beside path.
func bindUnix(ctx context.Context, what, path string) (*unixSocket, error) {
	if len(path)+len(freshSuffix) > maxSocketPath {
		return nil, fmt.Errorf("%s: the path %s is longer than %d bytes", what, path, maxSocketPath-len(freshSuffix))
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s: %s exists and is not a socket", what, path)
	}
	fresh := path + freshSuffix
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it would remove "fresh"
	}
	s := &unixSocket{Listener: l, what: what, path: path}
	if err = os.Chmod(fresh, 0o660); err == nil { //nolint:gosec // Envoy may run as another user of our group
		s.file, err = os.Lstat(fresh)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return s, nil
}

// unixSocket removes its file when it is closed, unless a successor has put
// another one in its place.
type unixSocket struct {
	net.Listener
	what  string
	path  string
	file  fs.FileInfo
	taken atomic.Bool // it is at path, or was
}

// take puts the socket at its path, in the place of whatever is there: from
// now on new connections come here. Those to a predecessor are still its own.
func (s *unixSocket) take() error {
	if err := os.Rename(s.path+freshSuffix, s.path); err != nil {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	s.taken.Store(true)
	return nil
}

// replaced reports whether a successor has taken the path.
func (s *unixSocket) replaced() bool {
	now, err := os.Lstat(s.path)
	return s.taken.Load() && err == nil && !os.SameFile(now, s.file)
}

// Close ends the listener. Connections that are open go on.
func (s *unixSocket) Close() error {
	err := s.Listener.Close()
	for _, path := range []string{s.path, s.path + freshSuffix} {
		if now, serr := os.Lstat(path); serr == nil && os.SameFile(now, s.file) {
			_ = os.Remove(path)
		}
	}
	return err
}

// Addr returns the path that clients connect to.
func (s *unixSocket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
