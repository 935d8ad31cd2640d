package envoytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Stream is an answer that a client reads piece by piece, and after a 101 a
// connection in both directions.
type Stream struct {
	Status int
	Header http.Header
	net.Conn
	body *bufio.Reader
}

// Open writes a request on a new connection and reads the head of the answer.
func Open(t testing.TB, addr, request string) *Stream {
	t.Helper()
	c, err := (&net.Dialer{Timeout: Patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	s := &Stream{Status: res.StatusCode, Header: res.Header, Conn: c, body: r}
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Cleanup(func() { _ = res.Body.Close() })
		s.body = bufio.NewReader(res.Body)
	}
	return s
}

// Line reads up to the next line feed, which is left out. The error is io.EOF
// at a proper end.
func (s *Stream) Line() (string, error) {
	line, err := s.body.ReadString('\n')
	return strings.TrimRight(line, "\n"), err
}

// Rest reads to the end.
func (s *Stream) Rest() (string, error) {
	b, err := io.ReadAll(s.body)
	return string(b), err
}

// Echo answers an upgrade with 101, more header lines and every byte that comes.
func Echo(lines ...string) Response {
	return Response{Take: func(c net.Conn, r *bufio.Reader) {
		head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		for _, l := range lines {
			head += l + "\r\n"
		}
		if _, err := io.WriteString(c, head+"\r\n"); err != nil {
			return
		}
		_, _ = io.Copy(c, r)
	}}
}
