//go:build !short

package xds_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// events is an answer of server-sent events (WHATWG HTML, section 9.2): one
// every interval until the client leaves, or until finish is closed.
func events(interval time.Duration, finish <-chan struct{}) envoytest.Response {
	return envoytest.Response{Take: func(c net.Conn, _ *bufio.Reader) {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = c.Read(make([]byte, 1))
		}()
		chunk := func(s string) error {
			_, err := fmt.Fprintf(c, "%x\r\n%s\r\n", len(s), s)
			return err
		}
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for i := 0; err == nil; i++ {
			err = chunk(fmt.Sprintf("data: %d\n\n", i))
			select {
			case <-finish:
				_ = chunk("") // the last one, empty
				return
			case <-gone:
				return
			case <-time.After(interval):
			}
		}
	}}
}

func TestServerSentEvents(t *testing.T) {
	finish := make(chan struct{})
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["events"] = envoytest.HTTP1(t)
		b["events"].Respond(func(s envoytest.Seen) envoytest.Response {
			switch s.Path {
			case "/silence":
				return events(time.Hour, nil)
			case "/endless":
				return events(20*time.Millisecond, nil)
			default:
				return events(20*time.Millisecond, finish)
			}
		})
		stream := func(id string, timeout, length, idle time.Duration) *keymanager.API {
			return api(keymanager.APIID(id), "/"+id, "1", func(a *keymanager.API) {
				a.Production = []string{b["events"].URL("")}
				a.Timeout, a.MaxDuration, a.IdleTimeout = timeout, length, idle
			})
		}
		return []*keymanager.API{
			stream("events", 0, 0, 0),
			stream("capped", 0, time.Second, 0),
			stream("impatient", 0, 0, time.Second),
			stream("normal", time.Second, 0, 0),
		}
	}})
	open := func(t *testing.T, path string) *envoytest.Stream {
		t.Helper()
		s := envoytest.Open(t, g.addr, envoytest.Request("GET", path, host, "Accept: text/event-stream"))
		if s.Status != 200 || s.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("status %d, headers %v", s.Status, s.Header)
		}
		return s
	}
	// ended reads to the end, which must come, and returns the reason in the log.
	ended := func(t *testing.T, s *envoytest.Stream) string {
		t.Helper()
		if _, err := s.Rest(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the stream ended with %v, want it cut", err)
		}
		return fmt.Sprint(g.envoy.Logged(envoytest.Reply{Header: s.Header})["details"])
	}
	t.Run("E34 events outlive the time-out of a call", func(t *testing.T) {
		s := open(t, "/events/1/x")
		// While they come an API with a time-out comes to its end.
		slow := open(t, "/normal/1/endless")
		if why := ended(t, slow); why != "response_timeout" {
			t.Errorf("the call ended for %s", why)
		}
		for range 20 {
			if _, err := s.Line(); err != nil {
				t.Fatal(err)
			}
		}
		close(finish)
		if _, err := s.Rest(); err != nil {
			t.Errorf("the end: %v", err)
		}
	})
	t.Run("E34 a call without an answer", func(t *testing.T) {
		g.backends["orders"].Respond(func(envoytest.Seen) envoytest.Response {
			return envoytest.Response{Take: func(c net.Conn, _ *bufio.Reader) { _, _ = c.Read(make([]byte, 1)) }}
		})
		moved := api("late", "/late", "1", func(a *keymanager.API) {
			a.Production, a.Timeout = []string{g.backends["orders"].URL("")}, time.Second
		})
		g.km.SetAPI(moved)
		envoytest.Eventually(t, func() error {
			r := g.get(t, "/late/1/x")
			if r.Status != 504 {
				return fmt.Errorf("status %d", r.Status)
			}
			if p := refusal(t, r); p.Code != "504" {
				t.Errorf("body %s", r.Body)
			}
			return nil
		})
	})
	t.Run("E34 cut at the cap", func(t *testing.T) {
		if why := ended(t, open(t, "/capped/1/endless")); why != "max_duration_timeout" {
			t.Errorf("the stream ended for %s", why)
		}
	})
	t.Run("E34 cut for silence", func(t *testing.T) {
		if why := ended(t, open(t, "/impatient/1/silence")); why != "stream_idle_timeout" {
			t.Errorf("the stream ended for %s", why)
		}
	})
}
