package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// What is behind the path of a socket until it takes its place.
const (
	freshSuffix = ".new"
	againSuffix = ".put" // where its file was removed
)

// unixSocket removes its file when it is closed, unless a successor has put
// another one in its place.
type unixSocket struct {
	what  string
	path  string
	taken atomic.Bool // it is at path, or was

	mu     sync.Mutex
	l      net.Listener
	file   fs.FileInfo
	closed bool
}

// listenUnix listens on a Unix socket. A socket that answers belongs to
// somebody; one that does not is left over and is replaced in one step, so
// that Envoy never finds the path empty.
func listenUnix(ctx context.Context, what, path string) (net.Listener, error) {
	if answers(ctx, path) {
		return nil, fmt.Errorf("%s: another process answers on %s; stop it first", what, path)
	}
	s, err := newUnixSocket(ctx, what, path)
	if err != nil {
		return nil, err
	}
	if err := s.take(); err != nil {
		_ = s.l.Close()
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
	s, err := newUnixSocket(ctx, what, path)
	if err != nil {
		return nil, err
	}
	return s, nil
}

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

// newUnixSocket listens beside path.
func newUnixSocket(ctx context.Context, what, path string) (*unixSocket, error) {
	if len(path)+len(freshSuffix) > maxSocketPath {
		return nil, fmt.Errorf("%s: the path %s is longer than %d bytes", what, path, maxSocketPath-len(freshSuffix))
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s: %s exists and is not a socket", what, path)
	}
	s := &unixSocket{what: what, path: path}
	if err := s.bind(ctx, freshSuffix); err != nil {
		return nil, err
	}
	return s, nil
}

// bind listens beside the path of the socket.
func (s *unixSocket) bind(ctx context.Context, suffix string) error {
	beside := s.path + suffix
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", beside)
	if err != nil {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it would remove what is beside
	}
	var file fs.FileInfo
	if err = os.Chmod(beside, 0o660); err == nil { //nolint:gosec // Envoy may run as another user of our group
		file, err = os.Lstat(beside)
	}
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("%s: %w", s.what, err)
	}
	s.l, s.file = l, file
	return nil
}

// take puts the socket at its path, in the place of whatever is there: from
// now on new connections come here. Those to a predecessor are still its own.
func (s *unixSocket) take() error {
	if err := s.move(freshSuffix); err != nil {
		return err
	}
	s.taken.Store(true)
	return nil
}

func (s *unixSocket) move(suffix string) error {
	now, err := os.Lstat(s.path + suffix)
	if err == nil && !os.SameFile(now, s.file) {
		err = fmt.Errorf("%s%s is that of another process, which starts at the same time", s.path, suffix)
	}
	if err == nil {
		err = os.Rename(s.path+suffix, s.path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	return nil
}

// replaced reports whether a successor has taken the path.
func (s *unixSocket) replaced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := os.Lstat(s.path)
	return s.taken.Load() && err == nil && !os.SameFile(now, s.file)
}

// restore listens anew if somebody has removed the file of the socket, after
// which nobody new can connect; who is connected stays. It reports whether it did.
func (s *unixSocket) restore(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(s.path); s.closed || !s.taken.Load() || !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	old := s.l
	if err := s.bind(ctx, againSuffix); err != nil {
		return false, err
	}
	_ = old.Close() // Accept goes on with the new one
	return true, s.move(againSuffix)
}

func (s *unixSocket) listener() net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l
}

// Accept implements net.Listener.
func (s *unixSocket) Accept() (net.Conn, error) {
	for {
		l := s.listener()
		conn, err := l.Accept()
		if err == nil || l == s.listener() {
			return conn, err
		}
	}
}

// Close ends the listener. Connections that are open go on.
func (s *unixSocket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	err := s.l.Close()
	for _, path := range []string{s.path, s.path + freshSuffix} {
		if now, serr := os.Lstat(path); serr == nil && os.SameFile(now, s.file) {
			_ = os.Remove(path)
		}
	}
	return err
}

// Addr returns the path that clients connect to.
func (s *unixSocket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
