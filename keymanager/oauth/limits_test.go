package oauth_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager/oauth"
)

// A body that drips is cut off; nothing waits for its end, whatever is wrong
// with the request beside it.
func TestSlowBody(t *testing.T) {
	r := newRig(t, func(o *oauth.Options) { o.BodyTimeout = 50 * time.Millisecond })
	for name, head := range map[string]string{
		"good request":       "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nAuthorization: " + r.client.basic() + "\r\n",
		"no content type":    "POST /oauth2/revoke HTTP/1.1\r\nHost: x\r\n",
		"method not allowed": "PUT /oauth2/introspect HTTP/1.1\r\nHost: x\r\n",
		"no such path":       "POST /x HTTP/1.1\r\nHost: x\r\n",
	} {
		for _, length := range []string{"Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n40\r\n"} {
			t.Run(name, func(t *testing.T) {
				conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
				r.ok(err)
				defer conn.Close()
				r.ok(conn.SetDeadline(time.Now().Add(10 * time.Second)))
				_, err = fmt.Fprint(conn, head, length, "grant")
				r.ok(err)
				in := bufio.NewReader(conn)
				resp, err := http.ReadResponse(in, nil)
				r.ok(err)
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
					t.Errorf("%d, closes the connection: %v", resp.StatusCode, resp.Close)
				}
				for err == nil { // until the server hangs up
					_, err = in.ReadByte()
				}
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					t.Error("the connection stays open")
				}
			})
		}
	}
	if n := r.store.count("ClientFacts"); n != 0 {
		t.Errorf("%d look-ups", n)
	}
}

// A large request costs little memory, and a connection on which one came is
// still good if it was not too large to be read.
func TestLargeRequestsCostLittle(t *testing.T) {
	r := newRig(t)
	s := r.handler()
	for name, body := range map[string]string{
		"64 KiB of scope":  ccBody + "&scope=" + strings.Repeat("a", 64<<10),
		"10,000 scopes":    ccBody + "&scope=" + strings.Repeat("a+", 10_000),
		"1 MiB":            strings.Repeat("a", 1<<20),
		"1,000 parameters": ccBody + manyParameters(1000),
		"8,000 parameters": strings.Repeat("&a", 8000),
		"all escapes":      ccBody + "&scope=" + strings.Repeat("%61", 5000),
	} {
		const times = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, oauth.PathToken, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Authorization", r.client.basic())
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d", name, w.Code)
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / times; each > 256<<10 {
			t.Errorf("%s: %d bytes allocated for one request", name, each)
		}
	}
}

// handler is the rig's handler without the network.
func (r *rig) handler() http.Handler { return r.server.Config.Handler }

func TestLimitOfTheBody(t *testing.T) {
	r := newRig(t)
	fill := func(n int) string {
		const start = ccBody + "&x="
		return start + strings.Repeat("x", n-len(start))
	}
	for n, want := range map[int]int{16 << 10: 200, 16<<10 + 1: 413, 200 << 10: 413} {
		if got := r.do(request{auth: []string{r.client.basic()}, body: fill(n)}); got.status != want {
			t.Errorf("%d bytes: %d, want %d", n, got.status, want)
		}
	}
	for n, want := range map[int]int{63: 200, 64: 400} { // with grant_type one more
		if got := r.do(request{auth: []string{r.client.basic()}, body: ccBody + manyParameters(n)}); got.status != want {
			t.Errorf("%d parameters: %d, want %d", n+1, got.status, want)
		}
	}
}

// Whoever sends far too much gets the answer, and not a connection that is
// reset under it while it writes: also when others have put their writer around
// the server's.
func TestSenderOfTooMuchIsAnswered(t *testing.T) {
	r := newRig(t)
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.handler().ServeHTTP(around{around{w}}, req)
	}))
	defer outer.Close()
	for _, tt := range []struct {
		name   string
		server *httptest.Server
		line   string
	}{
		{"keeps the connection", r.server, ""}, {"closes it", r.server, "Connection: close\r\n"},
		{"keeps the connection, wrapped", outer, ""}, {"closes it, wrapped", outer, "Connection: close\r\n"},
	} {
		for _, size := range []int{300 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", tt.name, size), func(t *testing.T) {
				conn, err := net.Dial("tcp", tt.server.Listener.Addr().String())
				r.ok(err)
				defer conn.Close()
				r.ok(conn.SetDeadline(time.Now().Add(10 * time.Second)))
				_, err = fmt.Fprintf(conn, "POST /oauth2/token HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/x-www-form-urlencoded\r\n"+
					"Content-Length: %d\r\n\r\n%s", tt.line, size, strings.Repeat("a", 300<<10))
				r.ok(err)
				in := bufio.NewReader(conn)
				resp, err := http.ReadResponse(in, nil)
				r.ok(err)
				_, err = io.Copy(io.Discard, resp.Body)
				r.ok(err)
				r.ok(resp.Body.Close())
				if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
					t.Errorf("%d, closes the connection: %v", resp.StatusCode, resp.Close)
				}
				if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
					t.Errorf("after the answer: %v, want the end", err)
				}
			})
		}
	}
}

// around is a writer around another one, as what counts requests has it.
type around struct{ http.ResponseWriter }

func (a around) Unwrap() http.ResponseWriter { return a.ResponseWriter }
