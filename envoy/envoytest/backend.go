package envoytest

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Seen is a request as it reached a back end, byte for byte.
type Seen struct {
	Method  string
	Path    string // the request target, with the query
	Host    string
	Headers []Field // in order, names in lower case, without Host and pseudo headers
	Body    string
	Trailer []Field
}

// Field is a header line.
type Field struct{ Name, Value string }

// Get returns the values of a header, in order.
func (s Seen) Get(name string) []string { return get(s.Headers, name) }

func get(fields []Field, name string) []string {
	var out []string
	for _, f := range fields {
		if f.Name == name {
			out = append(out, f.Value)
		}
	}
	return out
}

// Response is what a back end answers. The zero value is 200 with the echo of
// the request: {"method", "path", "headers"}.
type Response struct {
	Status  int
	Headers []Field
	Body    string
	Delay   time.Duration // before the first byte
	Cut     bool          // close the connection instead
	// Take answers itself on an HTTP/1.1 connection, which is closed when it
	// returns: for upgrades and for answers that take their time.
	Take func(net.Conn, *bufio.Reader)
}

// Backend is a back end that remembers what reached it. It reads the protocol
// itself: a library would tidy up what it tells.
type Backend struct {
	t     testing.TB
	addr  string
	serve func(net.Conn)

	mu      sync.Mutex
	lis     net.Listener
	conns   map[net.Conn]bool
	seen    []Seen
	respond func(Seen) Response
	wait    sync.WaitGroup
}

// HTTP1 starts a back end that speaks HTTP/1.1 on a loopback port.
func HTTP1(t testing.TB) *Backend {
	t.Helper()
	return newBackend(t, func(b *Backend) func(net.Conn) { return b.serveHTTP1 })
}

// HTTP2 starts a back end that speaks HTTP/2 without TLS.
func HTTP2(t testing.TB) *Backend {
	t.Helper()
	return newBackend(t, func(b *Backend) func(net.Conn) { return b.serveHTTP2 })
}

func newBackend(t testing.TB, serve func(*Backend) func(net.Conn)) *Backend {
	t.Helper()
	b := &Backend{t: t, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	b.serve = serve(b)
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

// Start listens, again on the same port after Stop.
func (b *Backend) Start() {
	b.t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.lis, b.addr = lis, lis.Addr().String()
	b.mu.Unlock()
	b.wait.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			stopped := b.lis != lis
			if !stopped {
				b.conns[c] = true
			}
			b.mu.Unlock()
			if stopped {
				_ = c.Close()
				return
			}
			b.wait.Go(func() {
				b.serve(c)
				_ = c.Close()
				b.mu.Lock()
				delete(b.conns, c)
				b.mu.Unlock()
			})
		}
	})
}

// Stop closes the port and cuts every connection.
func (b *Backend) Stop() {
	b.mu.Lock()
	if b.lis != nil {
		_ = b.lis.Close()
		b.lis = nil
	}
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.wait.Wait()
}

// Addr returns host:port.
func (b *Backend) Addr() string { return b.addr }

// URL returns the address as an endpoint of an API, with a base path.
func (b *Backend) URL(path string) string {
	return (&url.URL{Scheme: "http", Host: b.addr, Path: path}).String()
}

// Respond sets what is answered from now on; fn is called concurrently.
func (b *Backend) Respond(fn func(Seen) Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.respond = fn
}

// Seen returns what has reached the back end since the last Forget.
func (b *Backend) Seen() []Seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Seen(nil), b.seen...)
}

// Forget drops what has been seen so far.
func (b *Backend) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = nil
}

// answer remembers a request and makes the response to it.
func (b *Backend) answer(s Seen) Response {
	b.mu.Lock()
	b.seen = append(b.seen, s)
	respond := b.respond
	b.mu.Unlock()
	var r Response
	if respond != nil {
		r = respond(s)
	}
	time.Sleep(r.Delay)
	if r.Take != nil {
		return r
	}
	if r.Status == 0 {
		r.Status = 200
	}
	if r.Body == "" {
		r.Body = echo(s)
		r.Headers = append(r.Headers, Field{"content-type", "application/json"})
	}
	return r
}

// echo is the body by which a client sees what reached the back end.
func echo(s Seen) string {
	headers := map[string]string{"host": s.Host}
	for _, f := range s.Headers {
		if old, ok := headers[f.Name]; ok {
			f.Value = old + "," + f.Value
		}
		headers[f.Name] = f.Value
	}
	b, err := json.Marshal(map[string]any{"method": s.Method, "path": s.Path, "headers": headers})
	if err != nil {
		panic(err) // strings only
	}
	return string(b)
}

// split makes a Seen of the fields of a header block.
func split(fields []Field) Seen {
	var s Seen
	for _, f := range fields {
		switch f.Name {
		case ":method":
			s.Method = f.Value
		case ":path":
			s.Path = f.Value
		case ":authority", "host":
			s.Host = f.Value
		default:
			if !strings.HasPrefix(f.Name, ":") {
				s.Headers = append(s.Headers, f)
			}
		}
	}
	return s
}
