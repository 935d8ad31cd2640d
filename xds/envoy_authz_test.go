//go:build !short

package xds_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"tollgate/envoy/envoytest"
)

// Without an answer of authz nothing passes.
func TestAuthzFails(t *testing.T) {
	const path = "/pets/1.0.0/x"
	waits, inTime := newGateway(t, setup{}), newGateway(t, setup{inTime: true})
	undecided := `{"code":"900900","message":"Unclassified Authentication Failure"}`
	for _, tc := range []struct {
		name   string
		script func(call int) envoytest.Answer
		status int
		calls  int
		body   string // "" = Envoy's own
	}{
		{"hangs", func(int) envoytest.Answer { return envoytest.Answer{Hang: true} }, 503, 1, ""},
		{"resets", func(int) envoytest.Answer { return envoytest.Answer{Reset: true} }, 503, 3, ""},
		{"resets once", func(n int) envoytest.Answer { return envoytest.Answer{Reset: n == 1} }, 200, 2, ""},
		{"is unavailable", func(int) envoytest.Answer { return envoytest.Answer{Status: codes.Unavailable} }, 503, 3, ""},
		{"is unavailable once", func(n int) envoytest.Answer {
			if n == 1 {
				return envoytest.Answer{Status: codes.Unavailable}
			}
			return envoytest.Answer{}
		}, 200, 2, ""},
		{"fails inside", func(int) envoytest.Answer { return envoytest.Answer{Status: codes.Internal} }, 503, 1, ""},
		{"denies the call itself", func(int) envoytest.Answer { return envoytest.Answer{Status: codes.PermissionDenied} }, 503, 1, ""},
		{"cannot decide", func(int) envoytest.Answer {
			return envoytest.Answer{Response: envoytest.Undecided(503, undecided, "retry-after", "1")}
		}, 503, 1, undecided},
		{"cannot decide and forgets the reason", func(int) envoytest.Answer {
			r := envoytest.Undecided(503, undecided)
			r.DynamicMetadata = nil
			return envoytest.Answer{Response: r}
		}, 503, 1, ""},
	} {
		t.Run("E19 "+tc.name, func(t *testing.T) {
			calls := make(chan int, 10)
			for n := 1; n <= cap(calls); n++ {
				calls <- n
			}
			g := waits
			if tc.name == "hangs" {
				g = inTime
			}
			g.authz.Script(func(*authv3.CheckRequest) envoytest.Answer { return tc.script(<-calls) })
			g.forget()
			res := g.get(t, path)
			if res.Status != tc.status || len(g.authz.Calls()) != tc.calls {
				t.Errorf("%d after %d calls, want %d after %d", res.Status, len(g.authz.Calls()), tc.status, tc.calls)
			}
			if seen := len(g.backends["pets"].Seen()); (res.Status == 200) != (seen == 1) {
				t.Errorf("%d, but the back end was reached %d times", res.Status, seen)
			}
			if tc.status == 200 {
				return
			}
			// The bound is half a second; ten times that is a machine under load.
			if us, err := strconv.Atoi(fmt.Sprint(g.envoy.Logged(res)["authz_us"])); err != nil || us > 5_000_000 {
				t.Errorf("it took %d µs, %v", us, err)
			}
			switch {
			case tc.body != "":
				if res.Body != tc.body || res.Header.Get("Retry-After") != "1" {
					t.Errorf("body %s, headers %v", res.Body, res.Header)
				}
			case refusal(t, res).Code != "900900" || res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Retry-After") != "1":
				t.Errorf("body %s, headers %v", res.Body, res.Header)
			}
		})
	}
	t.Run("E19 is gone, and returns", func(t *testing.T) {
		g := waits
		g.authz.Answer(envoytest.Answer{})
		g.authz.Stop()
		for range 20 {
			g.forget()
			if res := g.get(t, path); res.Status != 503 || refusal(t, res).Code != "900900" || len(g.backends["pets"].Seen()) > 0 {
				t.Errorf("authz is gone: %+v", res)
			}
		}
		g.authz.Start()
		g.try(t, want{200, "pets", path, "pets", "/v1/pets/x"}, func() envoytest.Reply { return g.get(t, path) })
	})
	t.Run("E19 takes connections and says nothing, and returns", func(t *testing.T) {
		g := inTime
		g.authz.Answer(envoytest.Answer{})
		g.authz.Stop()
		mute, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", g.authz.Path())
		if err != nil {
			t.Fatal(err)
		}
		res := g.get(t, path)
		if res.Status != 503 || refusal(t, res).Code != "900900" {
			t.Errorf("authz is mute: %+v", res)
		}
		if err := mute.Close(); err != nil {
			t.Fatal(err)
		}
		g.authz.Start()
		// Connections in the backlog are reset when the mute one ends: the next
		// request is the first that can succeed, if half a second is enough for it.
		envoytest.Eventually(t, func() error {
			if res := g.get(t, path); res.Status != 200 {
				return fmt.Errorf("%d %s", res.Status, res.Body)
			}
			return nil
		})
	})
	t.Run("E19 what the access log says", func(t *testing.T) {
		g := waits
		for _, tc := range []struct {
			answer          envoytest.Answer
			details, reason string
		}{
			{envoytest.Answer{Status: codes.Internal}, "ext_authz_error", ""},
			{envoytest.Answer{Response: envoytest.Undecided(503, undecided)}, "ext_authz_error", "undecided"},
			{envoytest.Answer{Response: envoytest.Deny(401, "")}, "ext_authz_denied", "401"},
		} {
			g.authz.Answer(tc.answer)
			l := g.envoy.Logged(g.get(t, path+"?secret=1", "X-Request-Id: of-the-client", "Authorization: Bearer secret"))
			reason, _ := l["deny_reason"].(string)
			if l["details"] != tc.details || l["flags"] != "UAEX" || l["path"] != path || l["api"] != "pets" || l["host"] != host ||
				reason != tc.reason || strings.Contains(fmt.Sprint(l), "secret") || strings.Contains(fmt.Sprint(l), "of-the-client") {
				t.Errorf("%s: %v", tc.details, l)
			}
		}
	})
	for _, g := range []*gateway{waits, inTime} {
		if n := g.envoy.Stat("http.edge.ext_authz.tollgate.failure_mode_allowed") + g.envoy.Stat("http.edge.ext_authz.tollgate.disabled"); n != 0 {
			t.Errorf("%d requests passed without a decision", n)
		}
	}
}

// An answer of authz that says nothing reaches no back end.
func TestZeroAnswerChoosesNoEnvironment(t *testing.T) {
	g := newGateway(t, setup{})
	g.authz.Allow(&authv3.CheckResponse{})
	res := g.try(t, want{status: 503, api: "pets", authz: "/pets/1.0.0/x"}, func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x") })
	if refusal(t, res).Code != "503" {
		t.Errorf("body %s", res.Body)
	}
}

// A restart of authz under load lets nothing pass without a decision, and a
// hand-over of its socket loses no request.
func TestAuthzRestartsUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		name    string
		restart func(*envoytest.Authz)
		only200 bool
	}{
		{"E19 killed", func(a *envoytest.Authz) { a.Stop(); a.Start() }, false},
		{"E19 handed over", func(a *envoytest.Authz) { a.HandOver() }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGateway(t, setup{})
			stop, got := make(chan struct{}), make(chan map[int]int)
			const clients = 4
			for range clients {
				go func() {
					statuses := map[int]int{}
					defer func() { got <- statuses }()
					c := envoytest.DialH2(t, g.addr)
					for {
						select {
						case <-stop:
							return
						default:
						}
						statuses[c.Get("/pets/1.0.0/x", host).Status]++
					}
				}()
			}
			for round := range 6 {
				envoytest.Eventually(t, func() error { // some requests between the restarts
					if n := len(g.backends["pets"].Seen()); n < 50*(round+1) {
						return fmt.Errorf("%d requests have passed", n)
					}
					return nil
				})
				tc.restart(g.authz)
			}
			close(stop)
			sum := map[int]int{}
			for range clients {
				for status, n := range <-got {
					sum[status] += n
				}
			}
			if sum[200] != len(g.backends["pets"].Seen()) {
				t.Errorf("%d answers of 200, %d requests at the back end", sum[200], len(g.backends["pets"].Seen()))
			}
			for status, n := range sum {
				if status != 200 && (tc.only200 || status != 503) {
					t.Errorf("%d answers of %d", n, status)
				}
			}
			t.Logf("answers: %v", sum)
		})
	}
}

// What authz says when it denies arrives as it is.
func TestDenials(t *testing.T) {
	g := newGateway(t, setup{})
	body := `{"code":"900901","message":"Invalid Credentials"}`
	for _, tc := range []struct {
		name   string
		answer *authv3.CheckResponse
		status int
		body   string
		header map[string][]string
	}{
		{"401", envoytest.Deny(401, body, "content-type", "application/json", "www-authenticate", `Bearer realm="x", error="invalid_token"`),
			401, body, map[string][]string{"Content-Type": {"application/json"}, "Www-Authenticate": {`Bearer realm="x", error="invalid_token"`}}},
		{"403", envoytest.Deny(403, body, "content-type", "application/problem+json"), 403, body,
			map[string][]string{"Content-Type": {"application/problem+json"}}},
		{"404", envoytest.Deny(404, body), 404, body, nil},
		{"429", envoytest.Deny(429, body, "retry-after", "17"), 429, body, map[string][]string{"Retry-After": {"17"}}},
		{"503", envoytest.Deny(503, `{"code":"700700"}`), 503, `{"code":"700700"}`, nil},
		{"no status", envoytest.Deny(0, body), 403, body, nil},
		{"long body is cut", envoytest.Deny(403, strings.Repeat("x", 5<<10)), 403, strings.Repeat("x", 4<<10), nil},
		{"two cookies", func() *authv3.CheckResponse {
			r := envoytest.Deny(401, body, "set-cookie", "a=1", "set-cookie", "b=2")
			return r
		}(), 401, body, map[string][]string{"Set-Cookie": {"a=1", "b=2"}}},
	} {
		t.Run("E22 "+tc.name, func(t *testing.T) {
			g.authz.Allow(tc.answer)
			res := g.try(t, want{status: tc.status, api: "pets", authz: "/pets/1.0.0/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x") })
			if res.Body != tc.body {
				t.Errorf("body %q, want %q", res.Body, tc.body)
			}
			for name, values := range tc.header {
				if fmt.Sprint(res.Header[name]) != fmt.Sprint(values) {
					t.Errorf("%s is %q, want %q", name, res.Header[name], values)
				}
			}
			if res.Header.Get("Server") != "gateway" || res.Header.Get("Grpc-Status") != "" || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("headers %v", res.Header)
			}
		})
	}
}
