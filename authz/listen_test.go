package authz

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "authz")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "s")
}

// answer says which listener a client reaches.
func answer(t *testing.T, l net.Listener, name string) {
	t.Helper()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(name))
			_ = c.Close()
		}
	}()
}

func reach(t *testing.T, path string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		return "nobody"
	}
	defer c.Close()
	b := make([]byte, 10)
	n, _ := c.Read(b)
	return string(b[:n])
}

func TestListenUnix(t *testing.T) {
	path := socketPath(t)
	first, err := ListenUnix(SocketOptions{Path: path, Mode: 0o600})
	must(t, err)
	answer(t, first, "first")
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("mode is %v", info.Mode())
	}
	if _, err := ListenUnix(SocketOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("the socket of a live process is taken: %v", err)
	}
	if got := reach(t, path); got != "first" {
		t.Errorf("reached %q", got)
	}
	// Hand-over: who comes next takes the path, and the first goes without it.
	second, err := ListenUnix(SocketOptions{Path: path, TakeOver: true})
	must(t, err)
	answer(t, second, "second")
	if got := reach(t, path); got != "second" {
		t.Errorf("after the hand-over reached %q", got)
	}
	must(t, first.Close())
	if got := reach(t, path); got != "second" {
		t.Errorf("the first one took the path with it: reached %q", got)
	}
	must(t, second.Close())
	if _, err := os.Lstat(path); err == nil {
		t.Error("a closed listener leaves its socket")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("%v are left", entries)
	}
}

func TestListenUnixOverWhatIsThere(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	dead.SetUnlinkOnClose(false)
	must(t, dead.Close())
	must(t, os.WriteFile(path+".new", nil, 0o600))
	l, err := ListenUnix(SocketOptions{Path: path})
	must(t, err)
	answer(t, l, "new")
	if got := reach(t, path); got != "new" {
		t.Errorf("reached %q over a dead socket", got)
	}
	must(t, l.Close())

	must(t, os.WriteFile(path, []byte("data"), 0o600))
	for _, takeOver := range []bool{false, true} {
		if _, err := ListenUnix(SocketOptions{Path: path, TakeOver: takeOver}); err == nil {
			t.Error("a file that is no socket is replaced")
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "data" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if _, err := ListenUnix(SocketOptions{Path: "/tmp/" + strings.Repeat("x", 99)}); err == nil {
		t.Error("a path that is too long is taken")
	}
	if _, err := ListenUnix(SocketOptions{Path: filepath.Join(filepath.Dir(path), "missing", "s")}); err == nil {
		t.Error("a folder that is missing is made")
	}
}
