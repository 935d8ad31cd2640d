package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestBoundedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "envoy.log")
	if err := os.WriteFile(path, []byte("of the run before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const limit = 1000
	l, err := OpenLog(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read(path + ".old"); got != "of the run before\n" {
		t.Errorf("the log of the run before is %q", got)
	}
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for i := range 500 {
				if _, err := fmt.Fprintf(l, "writer %d line %d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if _, err := l.Write([]byte("the last line\n")); err != nil {
		t.Fatal(err)
	}
	both := read(path+".old") + read(path)
	if len(read(path)) > limit || len(both) > 2*limit || len(both) < limit {
		t.Errorf("the files hold %d bytes together, %d in the first", len(both), len(read(path)))
	}
	if !strings.HasSuffix(both, "\nthe last line\n") || !strings.HasPrefix(both, "writer ") {
		t.Errorf("lines are missing or cut: %q", both)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := l.Write(make([]byte, 3*limit)); err != nil { // one that is too large is still one
		t.Error(err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
}

// A disk or folder that refuses costs lines, never the limit.
func TestBoundedLogThatCannotTurn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "envoy.log")
	l, err := OpenLog(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Mkdir(path+".old", 0o700); err != nil { // cannot be replaced by a file
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("012345678")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("more")); err == nil {
		t.Error("the line was not refused")
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 10 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := OpenLog(path, 0); err == nil {
		t.Error("a log without limit")
	}
	if _, err := OpenLog(filepath.Join(dir, "none", "x"), 1); err == nil {
		t.Error("a log in a folder that is not there")
	}
}
