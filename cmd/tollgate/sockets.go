package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// listenUnix listens on a Unix socket. A socket that answers belongs to
// somebody; one that does not is left over and is replaced in one step, so
// that Envoy never finds the path empty.
func listenUnix(ctx context.Context, what, path string) (net.Listener, error) {
	if len(path)+len(".new") > maxSocketPath {
		return nil, fmt.Errorf("%s: the path %s is longer than %d bytes", what, path, maxSocketPath-len(".new"))
	}
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: another process answers on %s; stop it first", what, path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s: %s exists and is not a socket", what, path)
	}
	fresh := path + ".new"
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
	s := &unixSocket{Listener: l, path: path}
	if err = os.Chmod(fresh, 0o660); err == nil { //nolint:gosec // Envoy may run as another user of our group
		if s.file, err = os.Lstat(fresh); err == nil {
			err = os.Rename(fresh, path)
		}
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
	path string
	file fs.FileInfo
}

// Close ends the listener. Connections that are open go on.
func (s *unixSocket) Close() error {
	err := s.Listener.Close()
	if now, serr := os.Lstat(s.path); serr == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path)
	}
	return err
}

// Addr returns the path that clients connect to.
func (s *unixSocket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
