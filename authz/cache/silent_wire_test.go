//go:build faults

package cache

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// silentWire is a way to a server on which everything may vanish without a word,
// as behind a firewall that drops: bytes on connections that are there, and what
// asks for new ones. For the latter the kernel is made use of, so that nobody
// needs to be root: it drops what finds a full queue of connections.
type silentWire struct {
	t        testing.TB
	upstream string
	lis      net.Listener

	mu     sync.Mutex
	silent bool
	healed chan struct{} // closed when it speaks again
	conns  []net.Conn
	fill   []net.Conn // of the queue
	done   sync.WaitGroup
}

// newSilentWire returns a wire to upstream that is well.
func newSilentWire(t testing.TB, upstream string) *silentWire {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	lis, err := net.FileListener(f) // a copy
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	w := &silentWire{t: t, upstream: upstream, lis: lis}
	w.done.Go(w.accept)
	t.Cleanup(func() {
		w.heal()
		_ = lis.Close()
		w.mu.Lock()
		closeAll(w.conns)
		w.mu.Unlock()
		w.done.Wait()
	})
	return w
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// addr is where clients connect.
func (w *silentWire) addr() string { return w.lis.Addr().String() }

// isSilent returns when it heals; nil if it is well.
func (w *silentWire) isSilent() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent {
		return w.healed
	}
	return nil
}

func (w *silentWire) accept() {
	for {
		c, err := w.lis.Accept()
		if err != nil {
			return
		}
		if healed := w.isSilent(); healed != nil { // one is taken out of the queue before it is seen
			<-healed
			_ = c.Close()
			continue
		}
		up, err := net.Dial("tcp", w.upstream)
		if err != nil {
			_ = c.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, c, up)
		w.mu.Unlock()
		w.done.Go(func() { w.pass(c, up) })
		w.done.Go(func() { w.pass(up, c) })
	}
}

// pass copies, or lets vanish, what comes.
func (w *silentWire) pass(from io.Reader, to io.WriteCloser) {
	defer to.Close()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if w.isSilent() != nil {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// drop lets everything vanish from now on.
func (w *silentWire) drop() {
	w.t.Helper()
	w.mu.Lock()
	w.silent, w.healed = true, make(chan struct{})
	w.mu.Unlock()
	for range 100 {
		c, err := net.DialTimeout("tcp", w.addr(), 300*time.Millisecond)
		if err != nil {
			if e, ok := err.(net.Error); !ok || !e.Timeout() { //nolint:errorlint // of net.Dial itself
				w.t.Fatalf("a full queue answers: %v", err)
			}
			return
		}
		w.fill = append(w.fill, c)
	}
	w.t.Fatal("the queue of connections does not fill")
}

// heal lets it speak again. What has vanished stays so.
func (w *silentWire) heal() {
	w.mu.Lock()
	if w.silent {
		w.silent = false
		close(w.healed)
	}
	w.mu.Unlock()
	closeAll(w.fill)
	w.fill = nil
}
