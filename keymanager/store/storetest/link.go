package storetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Link is a way to a server that a test can cut, at any byte.
type Link struct {
	server *Server
	dir    string
	t      testing.TB

	mu       sync.Mutex
	refuse   bool
	requests func([]byte) int // how much of what a client sends passes; fewer bytes: and then it is cut
	replies  func([]byte) int // the same of what the server sends
	open     map[net.Conn]net.Conn
	held     chan struct{} // not nil: what does not pass is kept, not lost; closed by Heal
	stalls   int           // connections that are kept so
	group    sync.WaitGroup
}

// NewLink returns a link to the server that ends with the test.
func NewLink(t testing.TB, s *Server) *Link {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "tollgate-link-")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{server: s, dir: dir, t: t, open: map[net.Conn]net.Conn{}}
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	l.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			l.connect(client)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		l.group.Wait()
		_ = os.RemoveAll(dir)
	})
	return l
}

// DSN is the address of the server's first database through the link.
func (l *Link) DSN() string { return l.server.dsn(l.dir) }

func (l *Link) connect(client net.Conn) {
	server, err := net.Dial("unix", filepath.Join(l.server.dir, ".s.PGSQL.5432"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || l.refuse {
		_ = client.Close()
		if err == nil {
			_ = server.Close()
		}
		return
	}
	l.open[client] = server
	l.group.Go(func() { l.pass(client, client, server, func() func([]byte) int { return l.requests }) })
	l.group.Go(func() { l.pass(client, server, client, func() func([]byte) int { return l.replies }) })
}

// pass copies one direction until either side ends or the test cuts it.
func (l *Link) pass(client, from, to net.Conn, filter func() func([]byte) int) {
	defer l.drop(client)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		f := filter()
		l.mu.Unlock()
		pass := n
		if f != nil {
			pass = min(n, f(buf[:n]))
		}
		if _, err := to.Write(buf[:pass]); err != nil || pass < n && !l.stall() {
			return
		}
		if pass < n {
			if _, err := to.Write(buf[pass:n]); err != nil {
				return
			}
		}
	}
}

// stall waits until Heal if connections are to be kept, and reports whether
// they are.
func (l *Link) stall() bool {
	l.mu.Lock()
	held := l.held
	if held != nil {
		l.stalls++
	}
	l.mu.Unlock()
	if held == nil {
		return false
	}
	<-held
	return true
}

// Stalls is how many connections have been stalled since the last Heal.
func (l *Link) Stalls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stalls
}

func (l *Link) drop(client net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if server := l.open[client]; server != nil {
		delete(l.open, client)
		_, _ = client.Close(), server.Close()
	}
}

// Cut cuts all connections and refuses others until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = true
	l.release()
	for client, server := range l.open {
		delete(l.open, client)
		_, _ = client.Close(), server.Close()
	}
}

// Heal lets connections through, and all that passes over them.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse, l.requests, l.replies, l.stalls = false, nil, nil, 0
	l.release()
}

func (l *Link) release() {
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// StallCommit lets pass the first n bytes of the next message that commits, and
// nothing after them until Heal: as if the client had stopped there.
func (l *Link) StallCommit(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release()
	l.held = make(chan struct{})
	done := false
	var once sync.Mutex
	l.requests = func(b []byte) int {
		once.Lock()
		defer once.Unlock()
		if done || !bytes.Contains(b, []byte("COMMIT")) {
			return len(b)
		}
		done = true
		return min(n, len(b)-1)
	}
}

// CutRequest cuts the connection over which the n-th byte from now on is sent
// to the server, just before that byte.
func (l *Link) CutRequest(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var once sync.Mutex
	l.requests = func(b []byte) int {
		once.Lock()
		defer once.Unlock()
		pass := len(b)
		if n >= 0 {
			pass = min(len(b), n)
			n -= len(b)
		}
		return pass
	}
}

// LoseReply cuts the next connection over which the server says that it has
// done what tag names ("COMMIT", "INSERT 0 1"), before anything of it is
// passed on.
func (l *Link) LoseReply(tag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	complete := []byte(fmt.Sprintf("C\x00\x00\x00%c%s\x00", len(tag)+5, tag)) // CommandComplete
	done := false
	var once sync.Mutex
	l.replies = func(b []byte) int {
		once.Lock()
		defer once.Unlock()
		if done || !bytes.Contains(b, complete) {
			return len(b)
		}
		done = true
		return 0
	}
}
