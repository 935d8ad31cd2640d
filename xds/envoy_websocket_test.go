//go:build !short

package xds_test

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// handshake is what a browser sends to open a WebSocket (RFC 6455 section 4.1).
func handshake(target, upgrade string, lines ...string) string {
	return envoytest.Request("GET", target, host, append([]string{
		"Connection: Upgrade", "Upgrade: " + upgrade, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}, lines...)...)
}

func TestWebSocket(t *testing.T) {
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["feed"] = envoytest.HTTP1(t)
		b["feed"].Respond(func(s envoytest.Seen) envoytest.Response {
			if s.Get("upgrade") == nil {
				return envoytest.Response{Status: 426}
			}
			return envoytest.Echo()
		})
		socket := func(change func(*keymanager.API)) func(*keymanager.API) {
			return func(a *keymanager.API) {
				a.Protocol, a.Timeout = keymanager.WebSocket, 0
				a.Production = []string{b["feed"].URL("/ws")}
				change(a)
			}
		}
		return []*keymanager.API{
			api("feed", "/feed", "1", socket(func(*keymanager.API) {})),
			api("short", "/short", "1", socket(func(a *keymanager.API) { a.MaxDuration = time.Second })),
			api("silent", "/silent", "1", socket(func(a *keymanager.API) { a.IdleTimeout = time.Second })),
		}
	}})
	const token = "tgat_secret"
	// As authz does: 401 without a token, and what the back end must not see is
	// taken out.
	g.authz.Script(func(req *authv3.CheckRequest) envoytest.Answer {
		offered := strings.Join(envoytest.HeaderValues(req, "sec-websocket-protocol"), ",")
		switch {
		case len(envoytest.HeaderValues(req, "authorization")) > 0:
			ok := envoytest.OK()
			ok.GetOkResponse().HeadersToRemove = []string{"authorization"}
			return envoytest.Answer{Response: ok}
		case strings.Contains(offered, token):
			return envoytest.Answer{Response: envoytest.OK("sec-websocket-protocol", "chat.v1")}
		default:
			return envoytest.Answer{Response: envoytest.Deny(401, `{"code":"900902"}`, "www-authenticate", "Bearer")}
		}
	})
	bearer := "Authorization: Bearer " + token
	open := func(t *testing.T, request string, status int) *envoytest.Stream {
		t.Helper()
		g.forget()
		s := envoytest.Open(t, g.addr, request)
		if s.Status != status {
			body, _ := s.Rest()
			t.Fatalf("status %d %s, want %d", s.Status, body, status)
		}
		return s
	}
	say := func(t *testing.T, s *envoytest.Stream, words string) {
		t.Helper()
		if _, err := io.WriteString(s, words+"\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Line(); err != nil || got != words {
			t.Fatalf("heard %q %v, want %q", got, err, words)
		}
	}
	noSecret := func(t *testing.T) envoytest.Seen {
		t.Helper()
		seen := g.reached(t, "feed")
		for _, f := range seen.Headers {
			if strings.Contains(f.Value, token) {
				t.Errorf("the back end saw %s: %s", f.Name, f.Value)
			}
		}
		return seen
	}

	why := func(t *testing.T, s *envoytest.Stream, details string) {
		t.Helper()
		if got := g.envoy.Logged(envoytest.Reply{Header: s.Header})["details"]; got != details {
			t.Errorf("it ended for %v, want %s", got, details)
		}
	}

	t.Run("E33 both ways", func(t *testing.T) {
		s := open(t, handshake("/feed/1/room?x=1", "websocket", bearer), 101)
		for range 3 {
			say(t, s, "hello")
		}
		say(t, s, strings.Repeat("x", 200<<10)) // more than any buffer on the way
		if seen := noSecret(t); seen.Path != "/ws/room?x=1" || !slices.Equal(seen.Get("upgrade"), []string{"websocket"}) ||
			!slices.Equal(seen.Get("sec-websocket-key"), []string{"dGhlIHNhbXBsZSBub25jZQ=="}) {
			t.Errorf("the back end saw %+v", seen)
		}
		if n := len(g.authz.Calls()); n != 1 {
			t.Errorf("authz was asked %d times", n)
		}
	})
	t.Run("E33 a browser's token", func(t *testing.T) {
		s := open(t, handshake("/feed/1", "WebSocket", "Sec-WebSocket-Protocol: chat.v1, tollgate.bearer, "+token), 101)
		say(t, s, "hello")
		if seen := noSecret(t); !slices.Equal(seen.Get("sec-websocket-protocol"), []string{"chat.v1"}) {
			t.Errorf("the back end saw %v", seen.Get("sec-websocket-protocol"))
		}
	})
	t.Run("E33 no token", func(t *testing.T) {
		s := open(t, handshake("/feed/1", "websocket"), 401)
		if body, err := s.Rest(); err != nil || body != `{"code":"900902"}` {
			t.Errorf("body %q %v", body, err)
		}
		if len(g.backends["feed"].Seen()) > 0 {
			t.Error("the back end was reached")
		}
	})
	t.Run("E33 authz is silent", func(t *testing.T) {
		g.authz.Stop()
		open(t, handshake("/feed/1", "websocket", bearer), 503)
		if len(g.backends["feed"].Seen()) > 0 {
			t.Error("the back end was reached")
		}
		g.authz.Start()
	})
	for _, tt := range []struct {
		name, target, upgrade string
		status                int
	}{
		{"another API", "/orders/2.0/x", "websocket", 403},
		{"a word", "/feed/1", "foo", 403},
		{"a list", "/feed/1", "websocket, foo", 403},
		// Envoy takes h2c for no upgrade at all: the request goes on without it.
		{"h2c", "/feed/1", "h2c", 426},
		{"h2c of another API", "/orders/2.0/x", "h2c", 200},
	} {
		t.Run("E33 upgrade refused: "+tt.name, func(t *testing.T) {
			g.forget()
			// What comes behind the handshake is another request to Envoy, or nothing:
			// never bytes for the back end.
			behind := envoytest.Request("GET", "/root/2/behind", host)
			s := envoytest.Open(t, g.addr, handshake(tt.target, tt.upgrade, bearer, "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")+behind)
			if s.Status != tt.status {
				t.Errorf("status %d, want %d", s.Status, tt.status)
			}
			_ = s.Close()
			for name, b := range g.backends {
				for _, seen := range b.Seen() {
					if tt.status == 403 || len(seen.Get("upgrade"))+len(seen.Get("http2-settings")) > 0 || strings.Contains(seen.Path, "behind") {
						t.Errorf("%s saw %+v", name, seen)
					}
				}
			}
		})
	}
	t.Run("E33 cut at the cap", func(t *testing.T) {
		s := open(t, handshake("/short/1", "websocket", bearer), 101)
		for { // it talks all the time: silence is not what ends it
			_, err := io.WriteString(s, "still here\n")
			if err == nil {
				_, err = s.Line()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("it was not cut")
			}
			if err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		why(t, s, "max_duration_timeout")
	})
	t.Run("E33 cut for silence", func(t *testing.T) {
		s := open(t, handshake("/silent/1", "websocket", bearer), 101)
		say(t, s, "hello")
		if _, err := s.Line(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it was not cut: %v", err)
		}
		why(t, s, "stream_idle_timeout")
	})
	t.Run("E33 without an upgrade", func(t *testing.T) {
		// The back end says what it thinks of a plain GET.
		open(t, envoytest.Request("GET", "/feed/1", host, bearer), 426)
		noSecret(t)
	})
}
