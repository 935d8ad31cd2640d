package authz

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// maxSocketPath is the longest path of a Unix socket (sockaddr_un, without the
// NUL).
const maxSocketPath = 107

// nextSuffix is put after the path while a socket is being made.
const nextSuffix = ".new"

// SocketOptions of ListenUnix.
type SocketOptions struct {
	Path string
	Mode fs.FileMode // of the socket; 0 = 0660
	// TakeOver replaces the socket of a process that still serves on it: the
	// hand-over of a restart without a gap. Without it that is an error.
	TakeOver bool
}

// ListenUnix listens on a Unix socket. The socket is made beside the path and
// renamed over it, so that there is one at every moment and a client never
// meets one with the wrong mode. A socket that a dead process left is replaced.
// Closing the listener removes the path only while it is still this listener's.
func ListenUnix(o SocketOptions) (net.Listener, error) {
	if len(o.Path)+len(nextSuffix) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: the path must have at most %d bytes", o.Path, maxSocketPath-len(nextSuffix))
	}
	if err := vacant(o.Path, o.TakeOver); err != nil {
		return nil, err
	}
	next := o.Path + nextSuffix
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would remove the socket of whoever follows
	info, err := publish(next, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close(), os.Remove(next))
	}
	return &socket{l, o.Path, info}, nil
}

// vacant reports whether the path can be taken. Whether somebody serves there
// shows only by connecting.
func vacant(path string, takeOver bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("socket %s: there is something that is not a socket", path)
	case takeOver:
		return nil
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil
	}
	return errors.Join(fmt.Errorf("socket %s: another process serves on it", path), c.Close())
}

func publish(next string, o SocketOptions) (fs.FileInfo, error) {
	if err := os.Chmod(next, orDefault(o.Mode, 0o660)); err != nil {
		return nil, err
	}
	info, err := os.Lstat(next)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(next, o.Path)
}

// socket is a listener that cleans up after itself alone.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

// Close closes the listener and removes its socket, unless another has taken
// its place.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if now, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(now, s.info) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
