package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// BoundedLog is a log file of bounded size. When it is full it becomes
// PATH.old, in the place of the one before, and a new one begins: together they
// hold at most twice the limit, and at least the last LIMIT bytes.
type BoundedLog struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLog begins a log at path, readable by its owner only. What was there
// becomes PATH.old. Limit is in bytes, and one Write at least.
func OpenLog(path string, limit int64) (*BoundedLog, error) {
	if limit <= 0 {
		return nil, fmt.Errorf("the limit of %s is not positive", path)
	}
	l := &BoundedLog{path: path, limit: limit}
	if err := l.turn(); err != nil {
		return nil, err
	}
	return l, nil
}

// Write appends p as a whole. If a full file cannot be replaced, p is dropped
// and the error returned: the file does not grow.
func (l *BoundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, fs.ErrClosed
	}
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		if err := l.turn(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// turn puts the file aside and begins a new one.
func (l *BoundedLog) turn() error {
	if err := os.Rename(l.path, l.path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, err := os.OpenFile(l.path, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.size = fresh, 0
	return nil
}

// Close ends the log.
func (l *BoundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
