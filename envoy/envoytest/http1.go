package envoytest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Reply is what a client got.
type Reply struct {
	Status int // 0 = the connection or the stream ended without an answer
	Header http.Header
	Body   string
	// Trailer are trailers of HTTP/2, and Reset says how the stream ended early.
	Trailer http.Header
	Reset   string
}

// Request makes the bytes of an HTTP/1.1 request without a body. Lines are
// header lines as they go out ("Accept: text/plain"). An empty host sends no
// Host line.
func Request(method, target, host string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	if host != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	return b.String() + "\r\n"
}

// Raw writes bytes on a new connection and reads one answer.
func Raw(t testing.TB, addr, request string) Reply {
	t.Helper()
	c, err := (&net.Dialer{Timeout: Patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(c, request); err != nil {
		return Reply{Reset: err.Error()}
	}
	// The method matters for answers without a body (HEAD).
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset") {
			return Reply{Reset: err.Error()}
		}
		t.Fatalf("%q: %v", request, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	out := Reply{Status: res.StatusCode, Header: res.Header, Body: string(body), Trailer: res.Trailer}
	if err != nil {
		out.Reset = err.Error()
	}
	return out
}

// Get calls GET target and returns the answer.
func Get(t testing.TB, addr, target, host string, lines ...string) Reply {
	t.Helper()
	return Raw(t, addr, Request("GET", target, host, lines...))
}

// serveHTTP1 answers requests on a connection until it ends.
func (b *Backend) serveHTTP1(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		s, err := readHTTP1(r)
		if err != nil {
			return
		}
		res := b.answer(s)
		if res.Cut {
			return
		}
		if res.Take != nil {
			res.Take(c, r)
			return
		}
		var out strings.Builder
		fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", res.Status, http.StatusText(res.Status), len(res.Body))
		for _, f := range res.Headers {
			fmt.Fprintf(&out, "%s: %s\r\n", f.Name, f.Value)
		}
		out.WriteString("\r\n")
		if s.Method != http.MethodHead {
			out.WriteString(res.Body)
		}
		if _, err := io.WriteString(c, out.String()); err != nil {
			return
		}
	}
}

// readHTTP1 reads one request and keeps it as it came.
func readHTTP1(r *bufio.Reader) (Seen, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return Seen{}, err
	}
	method, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	cut := strings.LastIndexByte(rest, ' ')
	if cut < 0 {
		return Seen{}, fmt.Errorf("request line %q", line)
	}
	fields, err := readFields(r)
	if err != nil {
		return Seen{}, err
	}
	s := split(fields)
	s.Method, s.Path = method, rest[:cut]
	var body []byte
	if strings.EqualFold(strings.Join(s.Get("transfer-encoding"), ","), "chunked") {
		if body, err = io.ReadAll(httputil.NewChunkedReader(r)); err == nil {
			s.Trailer, err = readFields(r)
		}
	} else if n := s.Get("content-length"); len(n) > 0 {
		var size int
		if size, err = strconv.Atoi(n[0]); err == nil {
			body = make([]byte, size)
			_, err = io.ReadFull(r, body)
		}
	}
	s.Body = string(body)
	return s, err
}

// readFields reads header lines up to the empty line.
func readFields(r *bufio.Reader) ([]Field, error) {
	var out []Field
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return out, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("header line %q", line)
		}
		out = append(out, Field{strings.ToLower(name), strings.Trim(value, " \t")})
	}
}
