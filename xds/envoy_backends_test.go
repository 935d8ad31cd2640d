//go:build !short

package xds_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// byKey plays authz: a header says which key it was, production without one.
func byKey(req *authv3.CheckRequest) envoytest.Answer {
	if len(envoytest.HeaderValues(req, "apikey")) > 0 {
		return envoytest.Answer{Response: envoytest.OKTo(envoy.EnvSandbox)}
	}
	return envoytest.Answer{Response: envoytest.OK()}
}

const sandboxKey = "apikey: sandbox"

// failing answers a status to the first n calls, and 200 afterwards.
func failing(n int64, response envoytest.Response) func(envoytest.Seen) envoytest.Response {
	var calls atomic.Int64
	return func(envoytest.Seen) envoytest.Response {
		if calls.Add(1) <= n {
			return response
		}
		return envoytest.Response{}
	}
}

// A retry is the router's: the client sees one call, and so does authz.
func TestRetries(t *testing.T) {
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["flaky"] = envoytest.HTTP1(t)
		with := func(id string, r *keymanager.Retry) *keymanager.API {
			return api(keymanager.APIID(id), "/"+id, "1", func(a *keymanager.API) {
				a.Production = []string{b["flaky"].URL("")}
				a.Backend.Retry = r
			})
		}
		statuses := []keymanager.RetryCondition{keymanager.Retry503, keymanager.Retry504}
		return []*keymanager.API{
			with("default", nil),
			with("never", &keymanager.Retry{}),
			with("safe", &keymanager.Retry{Attempts: 2}),
			with("twice", &keymanager.Retry{Attempts: 2, On: statuses, BackOff: time.Millisecond}),
			with("any", &keymanager.Retry{Attempts: 2, On: statuses, BackOff: time.Millisecond, AnyMethod: true}),
			with("impatient", &keymanager.Retry{Attempts: 1, On: statuses, BackOff: time.Millisecond, PerTryTimeout: 200 * time.Millisecond}),
		}
	}})
	busy := envoytest.Response{Status: 503, Body: "busy"}
	cut := envoytest.Response{Cut: true}
	hang := envoytest.Response{Take: func(c net.Conn, _ *bufio.Reader) { _, _ = c.Read(make([]byte, 1)) }} // until Envoy leaves
	for _, tt := range []struct {
		api, method string
		failures    int64
		with        envoytest.Response
		status      int
		reached     int
	}{
		{"default", "GET", 1, busy, 503, 1},
		{"default", "GET", 1, cut, 503, 1}, // it may have acted on it
		{"never", "GET", 1, busy, 503, 1},
		{"safe", "GET", 1, busy, 503, 1},
		{"twice", "GET", 1, busy, 200, 2},
		{"twice", "GET", 2, busy, 200, 3},
		{"twice", "GET", 3, busy, 503, 3},
		{"twice", "GET", 1, cut, 200, 2},
		{"twice", "PUT", 1, busy, 200, 2},
		{"twice", "DELETE", 1, busy, 200, 2},
		{"twice", "POST", 1, busy, 503, 1},
		{"twice", "POST", 1, cut, 503, 1},
		{"twice", "PATCH", 1, busy, 503, 1},
		{"twice", "GET", 1, envoytest.Response{Status: 500, Body: "broken"}, 500, 1},
		{"any", "POST", 1, busy, 200, 2},
		{"impatient", "GET", 1, hang, 200, 2},
		{"impatient", "GET", 9, hang, 504, 2},
		{"impatient", "POST", 0, busy, 200, 1},
	} {
		t.Run(fmt.Sprintf("%s %s %d of %d", tt.api, tt.method, tt.failures, tt.with.Status), func(t *testing.T) {
			g.forget()
			b := g.backends["flaky"]
			b.Respond(failing(tt.failures, tt.with))
			r := envoytest.Raw(t, g.addr, envoytest.Request(tt.method, "/"+tt.api+"/1/x", host, "Content-Length: 0"))
			if r.Status != tt.status {
				t.Errorf("status %d %s, want %d", r.Status, r.Body, tt.status)
			}
			if n := len(b.Seen()); n != tt.reached {
				t.Errorf("the back end was reached %d times, want %d", n, tt.reached)
			}
			if calls := g.authz.Calls(); len(calls) != 1 || envoytest.API(calls[0]) != tt.api {
				t.Errorf("authz was asked %d times, want once", len(calls))
			}
		})
	}
	for name, answer := range map[string]*authv3.CheckResponse{
		"refused":   envoytest.Deny(403, "no"),
		"undecided": envoytest.Undecided(503, "later"),
		"limited":   envoytest.Deny(503, "slow down"),
	} {
		t.Run("authz's answer is final: "+name, func(t *testing.T) {
			g.forget()
			g.authz.Allow(answer)
			if r := g.get(t, "/any/1/x"); r.Status == 200 {
				t.Errorf("status %d", r.Status)
			}
			if n, asked := len(g.backends["flaky"].Seen()), len(g.authz.Calls()); n != 0 || asked != 1 {
				t.Errorf("the back end was reached %d times, authz asked %d times", n, asked)
			}
		})
	}
}

// A call that no back end has seen goes to the next endpoint, whatever it is.
func TestRetriesGoToAnotherEndpoint(t *testing.T) {
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["gone"] = envoytest.HTTP1(t)
		b["gone"].Stop()
		return []*keymanager.API{api("pair", "/pair", "1", func(a *keymanager.API) {
			a.Production = []string{b["gone"].URL(""), b["root"].URL("")}
			a.Sandbox = []string{b["orders"].URL("")}
			a.Backend.Retry = &keymanager.Retry{Attempts: 1, BackOff: time.Millisecond}
		})}
	}})
	for range 20 {
		g.try(t, want{200, "pair", "/pair/1/x", "root", "/x"}, func() envoytest.Reply {
			return envoytest.Raw(t, g.addr, envoytest.Request("POST", "/pair/1/x", host, "Content-Length: 0"))
		})
	}
}

// A dead back end is turned off, its neighbour and the other environment are
// not, and it comes back.
func TestHealthCheck(t *testing.T) {
	check := &keymanager.HealthCheck{Path: "/healthz", Interval: time.Second, Timeout: time.Second, Unhealthy: 1, Healthy: 1}
	var sick atomic.Bool
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		for _, name := range []string{"one", "two", "box", "single", "single-box"} {
			b[name] = envoytest.HTTP1(t)
		}
		b["two"].Respond(func(s envoytest.Seen) envoytest.Response {
			if sick.Load() && s.Path == "/healthz" {
				return envoytest.Response{Status: 500, Body: "sick"}
			}
			return envoytest.Response{}
		})
		return []*keymanager.API{
			api("pair", "/pair", "1", func(a *keymanager.API) {
				a.Production, a.Sandbox = []string{b["one"].URL("/v1"), b["two"].URL("/v1")}, []string{b["box"].URL("/v1")}
				a.Backend.HealthCheck = check
			}),
			api("single", "/single", "1", func(a *keymanager.API) {
				a.Production, a.Sandbox = []string{b["single"].URL("")}, []string{b["single-box"].URL("")}
				a.Backend.HealthCheck = &keymanager.HealthCheck{Interval: time.Second, Unhealthy: 1, Healthy: 1} // by connecting
			}),
		}
	}})
	g.authz.Script(byKey)
	// served returns who of a list answers calls of a path, twenty of them, and
	// the statuses that were none of theirs.
	served := func(path string, of ...string) string {
		for _, b := range g.backends {
			b.Forget()
		}
		statuses := map[int]int{}
		for range 20 {
			statuses[g.get(t, path).Status]++
		}
		var out []string
		for _, name := range of {
			for _, s := range g.backends[name].Seen() {
				if s.Path != "/healthz" {
					out = append(out, name)
					break
				}
			}
		}
		if n := 20 - statuses[200]; n > 0 {
			out = append(out, fmt.Sprintf("%d×%v", n, statuses))
		}
		return strings.Join(out, " ")
	}
	becomes := func(t *testing.T, path, want string, of ...string) {
		t.Helper()
		envoytest.Eventually(t, func() error {
			if got := served(path, of...); got != want {
				return fmt.Errorf("%s is answered by %q, want %q", path, got, want)
			}
			return nil
		})
	}
	all := []string{"one", "two", "box"}
	becomes(t, "/pair/1/x", "one two", all...)
	if s := g.backends["one"].Seen(); len(s) == 0 || s[0].Host != g.backends["one"].Addr() {
		t.Errorf("the check calls it by another host: %+v", s)
	}
	g.backends["one"].Stop()
	becomes(t, "/pair/1/x", "two", all...)
	sick.Store(true)
	t.Run("F72 nobody is well", func(t *testing.T) {
		denied := "http.edge.ext_authz.tollgate.denied"
		envoytest.Eventually(t, func() error {
			g.forget()
			r := g.get(t, "/pair/1/x")
			if log := g.envoy.Logged(r); r.Status != 503 || log["flags"] != "UH" {
				return fmt.Errorf("status %d, flags %v", r.Status, log["flags"])
			}
			if p := refusal(t, r); p.Code != "503" || p.RequestID != r.Header.Get("X-Request-Id") {
				t.Errorf("body %s", r.Body)
			}
			return nil
		})
		for range 20 { // never into the other environment
			if r := g.get(t, "/pair/1/x"); r.Status != 503 {
				t.Fatalf("status %d", r.Status)
			}
		}
		for _, s := range g.backends["box"].Seen() {
			if s.Path != "/healthz" {
				t.Errorf("the sandbox saw %+v", s)
			}
		}
		if r := g.get(t, "/pair/1/x", sandboxKey); r.Status != 200 {
			t.Errorf("sandbox: status %d", r.Status)
		}
		// A dead back end is no decision of authz.
		if n := g.envoy.Stat(denied) + g.envoy.Stat("http.edge.ext_authz.tollgate.error"); n != 0 {
			t.Errorf("%d calls were counted as refused or undecided", n)
		}
	})
	sick.Store(false)
	becomes(t, "/pair/1/x", "two", all...)
	g.backends["one"].Start()
	becomes(t, "/pair/1/x", "one two", all...)

	becomes(t, "/single/1/x", "single", "single", "single-box")
	g.backends["single"].Stop()
	envoytest.Eventually(t, func() error {
		if r := g.get(t, "/single/1/x"); g.envoy.Logged(r)["flags"] != "UH" {
			return fmt.Errorf("status %d", r.Status)
		}
		return nil
	})
	g.backends["single"].Start()
	becomes(t, "/single/1/x", "single", "single", "single-box")
}

// Who answers 5xx again and again is left out, if the API asks for it. When
// that is everybody of an environment they are tried all the same, and never
// those of the other.
func TestOutliers(t *testing.T) {
	outliers := &keymanager.OutlierDetection{Consecutive5xx: 3, EjectionTime: 5 * time.Minute, MaxEjectionPercent: 100}
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		for _, name := range []string{"good", "bad", "box"} {
			b[name] = envoytest.HTTP1(t)
		}
		b["bad"].Respond(func(envoytest.Seen) envoytest.Response { return envoytest.Response{Status: 500, Body: "broken"} })
		ends := func(a *keymanager.API) {
			a.Production, a.Sandbox = []string{b["good"].URL(""), b["bad"].URL("")}, []string{b["box"].URL("")}
		}
		return []*keymanager.API{
			api("guarded", "/guarded", "1", func(a *keymanager.API) { ends(a); a.Backend.Outliers = outliers }),
			api("plain", "/plain", "1", ends),
			api("alone", "/alone", "1", func(a *keymanager.API) {
				ends(a)
				a.Production = a.Production[1:]
				a.Backend.Outliers = outliers
			}),
		}
	}})
	g.authz.Script(byKey)
	broken := func(path string) (n int) {
		for range 20 {
			if g.get(t, path).Status == 500 {
				n++
			}
		}
		return n
	}
	envoytest.Eventually(t, func() error {
		if n := broken("/guarded/1/x"); n > 0 {
			return fmt.Errorf("%d of 20 calls reach the bad endpoint", n)
		}
		return nil
	})
	for range 3 {
		if broken("/plain/1/x") == 0 {
			t.Error("an endpoint was left out though the API did not ask for it")
		}
		if n := broken("/alone/1/x"); n != 20 {
			t.Errorf("%d of 20 calls reach the only endpoint", n)
		}
	}
	if seen := g.backends["box"].Seen(); len(seen) > 0 {
		t.Errorf("the sandbox saw %+v", seen)
	}
}

// Above the limits of an API the answer is 503 at once, and the API alone is
// limited.
func TestBackendLimits(t *testing.T) {
	release := make(chan struct{})
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["slow"] = envoytest.HTTP1(t)
		b["slow"].Respond(func(envoytest.Seen) envoytest.Response {
			<-release
			return envoytest.Response{}
		})
		return []*keymanager.API{api("slow", "/slow", "1", func(a *keymanager.API) {
			a.Production = []string{b["slow"].URL("")}
			a.Backend.Limits = &keymanager.BackendLimits{Connections: 1, Pending: 1}
		})}
	}})
	const calls = 8
	replies := make(chan envoytest.Reply, calls)
	for i := range calls {
		go func() { replies <- envoytest.Get(t, g.addr, "/slow/1/x", host) }()
		if i == 0 { // while it connects the first is one that waits
			envoytest.Eventually(t, func() error {
				if n := len(g.backends["slow"].Seen()); n != 1 {
					return fmt.Errorf("%d calls are at the back end", n)
				}
				return nil
			})
		}
	}
	for range calls - 2 { // one is at the back end, one waits for the connection
		r := <-replies
		if r.Status != 503 || refusal(t, r).Code != "503" {
			t.Errorf("status %d %s", r.Status, r.Body)
		}
		if log := g.envoy.Logged(r); log["flags"] != "UO" {
			t.Errorf("flags %v, want UO", log["flags"])
		}
	}
	g.try(t, want{200, "orders", "/orders/2.0/x", "orders", "/orders/2.0/x"}, func() envoytest.Reply {
		return g.get(t, "/orders/2.0/x")
	})
	close(release)
	for range 2 {
		if r := <-replies; r.Status != 200 {
			t.Errorf("status %d %s, want 200", r.Status, r.Body)
		}
	}
}
