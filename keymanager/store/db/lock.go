package db

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockFile takes the lock that keeps a second process (or a second opening in
// this one) away from a SQLite database. The kernel lets go of it when the
// process ends, however it ends. It is a file beside the database, because
// closing any handle on the database itself would drop SQLite's own locks.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := lockHolder(f)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is in use by %s", ErrUnavailable, path, holder)
		}
		return nil, fmt.Errorf("lock %s.lock: %w", path, err)
	}
	// The process id is for the message above; the lock holds without it.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func lockHolder(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	switch pid := strings.TrimSpace(string(b)); pid {
	case "":
		return "another process"
	case strconv.Itoa(os.Getpid()):
		return "this process already"
	default:
		return "process " + pid
	}
}
