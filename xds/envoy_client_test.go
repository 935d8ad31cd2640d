//go:build !short

package xds_test

import (
	"fmt"
	"testing"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/xds"
)

// The client's address is the one that the outermost trusted proxy has seen.
func TestClientAddress(t *testing.T) {
	const forged, client, proxy = "203.0.113.66", "198.51.100.7", "192.0.2.1"
	for _, tc := range []struct {
		hops uint32
		xff  string
		want string
	}{
		{0, "", "127.0.0.1"},
		{0, forged, "127.0.0.1"},
		{0, forged + ", " + client, "127.0.0.1"},
		{1, "", "127.0.0.1"},
		{1, client, client},
		{1, forged + ", " + client, client},
		{1, "garbage", "127.0.0.1"},
		{1, client + ", garbage", "127.0.0.1"},
		{2, client + ", " + proxy, client},
		{2, forged + ", " + client + ", " + proxy, client},
		{2, proxy, "127.0.0.1"},
	} {
		t.Run(fmt.Sprintf("E14 %d hops %q", tc.hops, tc.xff), func(t *testing.T) {
			g := newGateway(t, setup{group: func(x *xds.Group) { x.TrustedHops = tc.hops }})
			lines := []string{envoy.HeaderClientAddress + ": " + forged, "x-real-ip: " + forged, "forwarded: for=" + forged}
			if tc.xff != "" {
				lines = append(lines, "X-Forwarded-For: "+tc.xff)
			}
			res := g.try(t, want{200, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", lines...) })
			call := g.authz.Calls()[0]
			if got := envoytest.HeaderValues(call, envoy.HeaderClientAddress); len(got) != 1 || got[0] != tc.want {
				t.Errorf("authz saw the client %q, want %s", got, tc.want)
			}
			if peer := call.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress(); peer != "127.0.0.1" {
				t.Errorf("authz saw the peer %s", peer)
			}
			if l := g.envoy.Logged(res); l["client"] != tc.want || l["peer"] != "127.0.0.1" {
				t.Errorf("the log has client %v, peer %v", l["client"], l["peer"])
			}
		})
	}
}

// A client on a private network is a client like any other: its x-envoy-*
// headers control nothing.
func TestPrivateClientControlsNothing(t *testing.T) {
	g := newGateway(t, setup{})
	g.backends["pets"].Respond(func(envoytest.Seen) envoytest.Response { return envoytest.Response{Status: 503, Body: "busy"} })
	for name, lines := range map[string][]string{
		"E49 retries":     {"x-envoy-retry-on: 5xx,gateway-error", "x-envoy-max-retries: 3", "x-envoy-hedge-on-per-try-timeout: true"},
		"E49 statuses":    {"x-envoy-retry-on: retriable-status-codes", "x-envoy-retriable-status-codes: 503", "x-envoy-max-retries: 3"},
		"E49 internal":    {"x-envoy-internal: true", "x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3"},
		"E49 another XFF": {"X-Forwarded-For: 10.0.0.1", "x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3"},
	} {
		t.Run(name, func(t *testing.T) {
			g.try(t, want{503, "pets", "/pets/1.0.0/x", "pets", "/v1/pets/x"},
				func() envoytest.Reply { return g.get(t, "/pets/1.0.0/x", lines...) })
		})
	}
	t.Run("E49 time-out", func(t *testing.T) {
		hold := make(chan struct{})
		g.backends["pets"].Respond(func(envoytest.Seen) envoytest.Response {
			<-hold
			return envoytest.Response{}
		})
		answered := make(chan envoytest.Reply, 1)
		g.forget()
		go func() {
			answered <- envoytest.Get(t, g.addr, "/pets/1.0.0/x", host,
				"x-envoy-upstream-rq-timeout-ms: 1", "x-envoy-upstream-rq-per-try-timeout-ms: 1", "x-envoy-expected-rq-timeout-ms: 1")
		}()
		envoytest.Eventually(t, func() error {
			if len(g.backends["pets"].Seen()) == 0 {
				return fmt.Errorf("the back end was not reached")
			}
			return nil
		})
		// Another whole request takes longer than the client's millisecond.
		for range 20 {
			envoytest.Get(t, g.addr, "/orders/2.0/x", host)
		}
		close(hold)
		if r := <-answered; r.Status != 200 {
			t.Errorf("status %d %s", r.Status, r.Body)
		}
	})
	t.Run("E49 path and id", func(t *testing.T) {
		g.backends["pets"].Respond(nil)
		const mine = "11111111-2222-4333-8444-555555555555"
		res := g.try(t, want{200, "pets", "/pets/1.0.0/x?q=1", "pets", "/v1/pets/x?q=1"}, func() envoytest.Reply {
			return g.get(t, "/pets/1.0.0/x?q=1", "x-envoy-original-path: /orders/2.0/forged", "x-request-id: "+mine)
		})
		id := res.Header.Get("X-Request-Id")
		if id == "" || id == mine {
			t.Errorf("request id %q", id)
		}
		if got := envoytest.HeaderValues(g.authz.Calls()[0], envoy.HeaderRequestID); len(got) != 1 || got[0] != id {
			t.Errorf("authz saw the request id %q, the client %q", got, id)
		}
		l := g.envoy.Logged(res)
		if l["path"] != "/pets/1.0.0/x" || l["upstream_path"] != "/v1/pets/x" || l["host"] != host {
			t.Errorf("the log says %v", l)
		}
	})
}
