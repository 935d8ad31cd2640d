//go:build !short

package xds

import (
	"fmt"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// What Envoy refuses is found among what is good, alone kept back and reported;
// repaired, it is in use.
func TestEnvoyRefusesOneAPI(t *testing.T) {
	const elsewhere = "127.0.0.2" // where the bad revisions of the API point to
	isPoison := func(c *clusterv3.Cluster) bool {
		ends := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()
		return ends[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress() == elsewhere
	}
	routes := func(s *routev3.ScopedRouteConfiguration, fn func(*routev3.VirtualHost, *routev3.Route)) {
		for _, vh := range s.GetRouteConfiguration().GetVirtualHosts() {
			for _, r := range vh.GetRoutes() {
				if r.GetRoute().GetPrefixRewrite() == "/bad" {
					fn(vh, r)
				}
			}
		}
	}
	for _, tt := range []struct {
		name   string
		poison func(proto.Message)
	}{
		{"a bad regular expression", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) {
					r.GetRoute().RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
						Pattern: &matcherv3.RegexMatcher{Regex: "("}, Substitution: "/",
					}
				})
			}
		}},
		{"a broken proto rule", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) { r.Action = nil })
			}
		}},
		{"host among the headers", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) {
					r.RequestHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "host", Value: "x"}}}
				})
			}
		}},
		{"a domain twice", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(vh *routev3.VirtualHost, _ *routev3.Route) { vh.Domains = []string{"localhost", "localhost"} })
			}
		}},
		{"a cluster that breaks a proto rule", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.ConnectTimeout = seconds(0)
			}
		}},
		{"a cluster that Envoy cannot use", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.GetLoadAssignment().Endpoints[0].LbEndpoints[0].GetEndpoint().Address = socketAddress("not-an-address", 1)
			}
		}},
		{"an upgrade twice", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) {
					u := &routev3.RouteAction_UpgradeConfig{UpgradeType: websocketUpgrade}
					r.GetRoute().UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{u, u}
				})
			}
		}},
		{"a retry without a wait", func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				routes(s, func(_ *routev3.VirtualHost, r *routev3.Route) {
					r.GetRoute().GetRetryPolicy().RetryBackOff = &routev3.RetryPolicy_RetryBackOff{}
				})
			}
		}},
		{"a health check of no kind", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.HealthChecks = []*corev3.HealthCheck{{Interval: seconds(1), Timeout: seconds(1)}}
			}
		}},
		{"more than all endpoints left out", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.GetOutlierDetection().MaxEjectionPercent = uint32Value(101)
			}
		}},
		{"more retries than calls", func(m proto.Message) {
			if c, ok := m.(*clusterv3.Cluster); ok && isPoison(c) {
				c.GetCircuitBreakers().GetThresholds()[0].GetRetryBudget().BudgetPercent = &typev3.Percent{Value: 101}
			}
		}},
	} {
		t.Run("E37 "+tt.name, func(t *testing.T) {
			backend := envoytest.HTTP1(t)
			c := newCatalog(api("pets", backend.URL("")), api("poison", backend.URL("/old")))
			neighbour := api("neighbour", backend.URL("")) // in the same table
			neighbour.Context = "/poison/neighbour"
			c.put(neighbour)
			r := serve(t, c).waitReady()
			e := r.gatewayOf(t)
			eventually(t, answers(t, e, "/poison/1.0.0/x", 200))
			r.setRewrite(func(_ kind, m proto.Message) { tt.poison(m) })

			// Alone; and then, at once, with good changes of its own table and of others.
			r.waitConfirmed(c.put(api("poison", "http://"+elsewhere+":1/bad")))
			rejected(t, r, "poison-1")
			c.breakStreams(true)
			c.put(api("poison", "http://"+elsewhere+":2/bad"))
			other := api("neighbour", backend.URL("/moved"))
			other.Context = "/poison/neighbour"
			c.put(other)
			c.put(api("pets", backend.URL("/moved")))
			last := c.put(api("new", backend.URL("")))
			c.breakStreams(false)
			r.waitConfirmed(last)
			rejected(t, r, "poison-1")
			for path, want := range map[string]string{
				"/poison/1.0.0/x":           "/old/x",
				"/poison/neighbour/1.0.0/x": "/moved/x",
				"/pets/1.0.0/x":             "/moved/x",
				"/new/1.0.0/x":              "/x",
			} {
				backend.Forget()
				eventually(t, answers(t, e, path, 200))
				if seen := backend.Seen(); len(seen) == 0 || seen[len(seen)-1].Path != want {
					t.Errorf("%s reached the back end as %+v, want %s", path, seen, want)
				}
			}
			// Another Envoy gets the same.
			second := r.gatewayOf(t, func(o *envoytest.Options) { o.NodeID = "test-2" })
			eventually(t, answers(t, second, "/pets/1.0.0/x", 200))
			eventually(t, answers(t, second, "/poison/neighbour/1.0.0/x", 200))

			r.setRewrite(nil)
			r.waitConfirmed(c.put(api("poison", backend.URL("/good"))))
			rejected(t, r)
			backend.Forget()
			must(t, answers(t, e, "/poison/1.0.0/x", 200)())
			if seen := backend.Seen(); len(seen) != 1 || seen[0].Path != "/good/x" {
				t.Errorf("the repaired API reached the back end as %+v", seen)
			}
		})
	}
}

// rejected waits until exactly these APIs are reported.
func rejected(t *testing.T, r *running, want ...keymanager.APIID) {
	t.Helper()
	eventually(t, func() error {
		got := map[keymanager.APIID]bool{}
		for _, x := range r.gateways.state("xds-1").Rejected {
			if x.Type == "" || x.Name == "" || x.Reason == "" || x.Since.IsZero() {
				return fmt.Errorf("an incomplete report: %+v", x)
			}
			got[x.API] = true
		}
		for _, id := range want {
			if !got[id] {
				return fmt.Errorf("reported %v, want %v", got, want)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("reported %v, want %v", got, want)
		}
		return nil
	})
}

// What xds finds itself never reaches Envoy.
func TestEnvoyNeverSeesWhatIsQuarantined(t *testing.T) {
	backend := envoytest.HTTP1(t)
	c := newCatalog(api("pets", backend.URL("/old")), api("orders", backend.URL("")))
	r := serve(t, c).waitReady()
	e := r.gatewayOf(t)
	eventually(t, answers(t, e, "/pets/1.0.0/x", 200))
	for what, change := range map[string]func(*keymanager.API){
		"E37 a base path that Envoy would read otherwise": func(a *keymanager.API) { a.Version = "1;0" },
		"E37 https without authorities":                   func(a *keymanager.API) { a.Production = []string{"https://x.internal"} },
		"E37 the place of another API":                    func(a *keymanager.API) { a.Context = "/orders" },
		"E37 a retry that is not known": func(a *keymanager.API) {
			a.Backend.Retry = &keymanager.Retry{Attempts: 1, On: []keymanager.RetryCondition{"5xx,gateway-error"}}
		},
		"E37 a number below zero": func(a *keymanager.API) {
			a.Backend.Limits = &keymanager.BackendLimits{Connections: -1}
		},
		"E37 a time below zero": func(a *keymanager.API) {
			a.Backend.HealthCheck = &keymanager.HealthCheck{Interval: -1}
		},
		"E37 more than all endpoints left out": func(a *keymanager.API) {
			a.Backend.Outliers = &keymanager.OutlierDetection{MaxEjectionPercent: 101}
		},
		"E37 a path that ends the line": func(a *keymanager.API) {
			a.Backend.HealthCheck = &keymanager.HealthCheck{Path: "/x\r\nhost: y"}
		},
		"E37 a certificate that nobody has": func(a *keymanager.API) {
			a.Production = []string{"https://127.0.0.1:1"}
			a.Backend.TLS = &keymanager.BackendTLS{CA: "nobody"}
		},
		"E37 two base paths": func(a *keymanager.API) { a.Sandbox = []string{"http://127.0.0.1:1/v2"} },
	} {
		t.Run(what, func(t *testing.T) {
			a := api("pets", backend.URL("/v1"))
			change(a)
			r.waitConfirmed(c.put(a))
			rejected(t, r, "pets-1")
			must(t, answers(t, e, "/pets/1.0.0/x", 200)())
			must(t, answers(t, e, "/orders/1.0.0/x", 200)())
			r.waitConfirmed(c.put(api("pets", backend.URL("/old"))))
			rejected(t, r)
		})
	}
	if s := e.Stat("cluster_manager.cds.update_rejected"); s != 0 {
		t.Errorf("Envoy refused %d responses", s)
	}
}

func (r *running) setRewrite(fn func(kind, proto.Message)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rewrite = fn
}
