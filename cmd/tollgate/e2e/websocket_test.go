//go:build !short

package e2e

import (
	"io"
	"slices"
	"strings"
	"testing"

	"tollgate/envoy/envoytest"
)

const feedManifest = `
kind: User
organization: default
name: alice
spec: {}
---
kind: API
organization: default
name: feed
spec:
  version: 1.0.0
  context: /feed
  protocol: websocket
  maxDuration: 1m
  production: ["PRODUCTION_URL"]
  securitySchemes: [oauth2, oauth2_websocket]
  resources: [{method: GET, path: /*}]
  state: PUBLISHED
---
kind: API
organization: default
name: pages
spec:
  version: 1.0.0
  context: /pages
  production: ["PRODUCTION_URL"]
  resources: [{method: GET, path: /*}]
  state: PUBLISHED
---
kind: Application
organization: default
name: reader
spec: {owner: alice}
---
kind: Key
organization: default
name: reader/PRODUCTION
spec: {}
---
kind: Subscription
organization: default
name: reader-feed
spec: {application: reader, api: feed/1.0.0, tier: Unlimited}
---
kind: Subscription
organization: default
name: reader-pages
spec: {application: reader, api: pages/1.0.0, tier: Unlimited}
`

// A WebSocket is authorized at its handshake by the real authz, and its back
// end never sees the token, wherever it stood.
func TestWebSocket(t *testing.T) {
	pl := newPlace(t, feedManifest)
	pl.production.Respond(func(s envoytest.Seen) envoytest.Response {
		if s.Get("upgrade") == nil {
			return envoytest.Response{}
		}
		return envoytest.Echo()
	})
	live := pl.token(t, "reader")
	open := func(t *testing.T, target string, lines ...string) *envoytest.Stream {
		t.Helper()
		pl.forget()
		return envoytest.Open(t, pl.Gateway, envoytest.Request("GET", target, "localhost", append([]string{
			"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		}, lines...)...))
	}
	for name, tt := range map[string]struct {
		line     string
		protocol string // what the back end sees
		answer   string // what the client is told
	}{
		"E33 in Authorization":            {bearer(live), "", ""},
		"E33 a browser":                   {"Sec-WebSocket-Protocol: tollgate.bearer, " + live, "", "tollgate.bearer"},
		"E33 a browser with a protocol":   {"Sec-WebSocket-Protocol: prices.v1, tollgate.bearer, " + live, "prices.v1", ""},
		"E33 both, the second by mistake": {bearer(live) + "\r\nSec-WebSocket-Protocol: prices.v1, " + live, "prices.v1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "/feed/1.0.0/room", tt.line)
			if s.Status != 101 || s.Header.Get("Sec-WebSocket-Protocol") != tt.answer {
				t.Fatalf("status %d, headers %v", s.Status, s.Header)
			}
			if _, err := io.WriteString(s, "hello\n"); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Line(); err != nil || got != "hello" {
				t.Fatalf("heard %q %v", got, err)
			}
			seen := pl.production.Seen()
			if len(seen) != 1 || seen[0].Path != "/room" || seen[0].Get("x-tollgate-application")[0] != "reader" ||
				!slices.Equal(seen[0].Get("sec-websocket-protocol"), strings.Fields(tt.protocol)) {
				t.Fatalf("the back end saw %+v", seen)
			}
			for _, f := range seen[0].Headers {
				if strings.Contains(f.Value, live) {
					t.Errorf("the back end saw the token in %s", f.Name)
				}
			}
		})
	}
	for name, tt := range map[string]struct {
		target, line string
		status       int
	}{
		"E33 no token":         {"/feed/1.0.0/room", "Accept: */*", 401},
		"E33 a forged token":   {"/feed/1.0.0/room", "Sec-WebSocket-Protocol: tollgate.bearer, " + live + "x", 401},
		"E33 the mark alone":   {"/feed/1.0.0/room", "Sec-WebSocket-Protocol: tollgate.bearer", 401},
		"E33 two tokens":       {"/feed/1.0.0/room", bearer(live) + "\r\nSec-WebSocket-Protocol: tollgate.bearer, " + live, 401},
		"E33 no WebSocket API": {"/pages/1.0.0/room", bearer(live), 403},
	} {
		t.Run(name, func(t *testing.T) {
			if s := open(t, tt.target, tt.line); s.Status != tt.status {
				t.Errorf("status %d, want %d", s.Status, tt.status)
			}
			if pl.reached() > 0 {
				t.Error("the back end was reached")
			}
		})
	}
}
