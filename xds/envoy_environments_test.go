//go:build !short

package xds_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// One URL, two environments: the back end is the one that authz's answer names,
// or none.
func TestEnvironments(t *testing.T) {
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["grpc"], b["grpc-sandbox"] = envoytest.HTTP2(t), envoytest.HTTP2(t)
		return []*keymanager.API{
			api("only-sandbox", "/only-sandbox", "1", func(a *keymanager.API) {
				a.Sandbox = []string{b["pets-sandbox"].URL("/only")}
			}),
			api("grpc", "/pkg.Service", "", func(a *keymanager.API) {
				a.Protocol = keymanager.GRPC
				a.Production, a.Sandbox = []string{b["grpc"].URL("")}, []string{b["grpc-sandbox"].URL("")}
			}),
		}
	}})
	pets := func(at string) want { return want{200, "pets", "/pets/1.0.0/x", at, "/v1/pets/x"} }
	none := func(api, path string) want { return want{status: 503, api: api, authz: path} }
	get := func(t *testing.T, target string, lines ...string) func() envoytest.Reply {
		return func() envoytest.Reply { return g.get(t, target, lines...) }
	}
	for _, tc := range []struct {
		name   string
		env    string
		target string
		want
	}{
		{"production key", envoy.EnvProduction, "/pets/1.0.0/x", pets("pets")},
		{"sandbox key", envoy.EnvSandbox, "/pets/1.0.0/x", pets("pets-sandbox")},
		{"unknown environment", "staging", "/pets/1.0.0/x", none("pets", "/pets/1.0.0/x")},
		{"the word for none", envoy.EnvNone, "/pets/1.0.0/x", none("pets", "/pets/1.0.0/x")},
		{"other case", "PRODUCTION", "/pets/1.0.0/x", none("pets", "/pets/1.0.0/x")},
		{"a list", "production,sandbox", "/pets/1.0.0/x", none("pets", "/pets/1.0.0/x")},
		{"none", "", "/pets/1.0.0/x", none("pets", "/pets/1.0.0/x")},
		{"sandbox key of an API without a sandbox", envoy.EnvSandbox, "/orders/2.0/x", none("orders", "/orders/2.0/x")},
		{"production key of an API without production", envoy.EnvProduction, "/only-sandbox/1/x", none("only-sandbox", "/only-sandbox/1/x")},
		{"sandbox key of an API without production", envoy.EnvSandbox, "/only-sandbox/1/x",
			want{200, "only-sandbox", "/only-sandbox/1/x", "pets-sandbox", "/only/x"}},
	} {
		t.Run("E51 "+tc.name, func(t *testing.T) {
			g.authz.Allow(envoytest.OKTo(tc.env))
			for _, forged := range []string{"", envoy.EnvProduction, envoy.EnvSandbox} {
				var lines []string
				if forged != "" { // a client's own word counts for nothing
					lines = []string{envoy.HeaderEnv + ": " + forged}
				}
				res := g.try(t, tc.want, get(t, tc.target, lines...))
				if res.Status == 503 && refusal(t, res).Code != "503" {
					t.Errorf("body %s", res.Body)
				}
				if tc.at != "" && g.reached(t, tc.at).Get(envoy.HeaderEnv) != nil {
					t.Error("the back end saw the environment")
				}
			}
		})
	}
	t.Run("E51 alternating", func(t *testing.T) {
		for i := range 20 {
			env, at := envoy.EnvProduction, "pets"
			if i%2 == 1 {
				env, at = envoy.EnvSandbox, "pets-sandbox"
			}
			g.authz.Allow(envoytest.OKTo(env))
			g.try(t, pets(at), get(t, "/pets/1.0.0/x"))
		}
	})
	t.Run("E51 the host is the endpoint's", func(t *testing.T) {
		for env, at := range map[string]string{envoy.EnvProduction: "pets", envoy.EnvSandbox: "pets-sandbox"} {
			g.authz.Allow(envoytest.OKTo(env))
			g.try(t, pets(at), get(t, "/pets/1.0.0/x"))
			if h := g.reached(t, at).Host; h != g.backends[at].Addr() {
				t.Errorf("%s saw the host %s, want %s", at, h, g.backends[at].Addr())
			}
		}
	})
	t.Run("E51 gRPC", func(t *testing.T) {
		for env, at := range map[string]string{envoy.EnvProduction: "grpc", envoy.EnvSandbox: "grpc-sandbox", "": ""} {
			g.authz.Allow(envoytest.OKTo(env))
			g.forget()
			r := envoytest.DialH2(t, g.addr).Do(envoytest.H2Request{
				Fields: envoytest.Pseudo("POST", "/pkg.Service/Call", host, "content-type", "application/grpc", "te", "trailers"),
				Body:   "\x00\x00\x00\x00\x00",
			})
			if at == "" {
				if r.Status != 200 || r.Header.Get("Grpc-Status") != "14" {
					t.Errorf("no environment: %+v", r)
				}
				continue
			}
			if r.Status != 200 || r.Trailer.Get("Grpc-Status") != "0" || g.reached(t, at).Path != "/pkg.Service/Call" {
				t.Errorf("%s: %+v", env, r)
			}
		}
	})
	t.Run("E51 a dead sandbox is no reason for production", func(t *testing.T) {
		g.backends["pets-sandbox"].Stop()
		g.authz.Allow(envoytest.OKTo(envoy.EnvSandbox))
		for range 8 { // also when its host is ejected
			g.try(t, none("pets", "/pets/1.0.0/x"), get(t, "/pets/1.0.0/x"))
		}
		g.authz.Allow(envoytest.OKTo(envoy.EnvProduction))
		g.try(t, pets("pets"), get(t, "/pets/1.0.0/x"))
	})
	t.Run("E51 every cluster of an API has subsets", func(t *testing.T) {
		if n := checkSubsets(t, g.envoy.Get("/config_dump?resource=dynamic_active_clusters")); n != 5 {
			t.Errorf("%d clusters of APIs, want 5", n)
		}
	})
}

// checkSubsets looks at the clusters that Envoy has: one without subsets would
// ignore the environment and send a sandbox key to production.
func checkSubsets(t *testing.T, dump []byte) (apis int) {
	t.Helper()
	var doc struct {
		Configs []struct {
			Cluster struct {
				Name    string `json:"name"`
				Subsets struct {
					Fallback  string `json:"fallback_policy"` // absent = NO_FALLBACK
					Selectors []struct {
						Keys []string `json:"keys"`
					} `json:"subset_selectors"`
				} `json:"lb_subset_config"`
				Endpoints struct {
					Localities []struct {
						Endpoints []struct {
							Metadata struct {
								Filter map[string]map[string]string `json:"filter_metadata"`
							} `json:"metadata"`
						} `json:"lb_endpoints"`
					} `json:"endpoints"`
				} `json:"load_assignment"`
			} `json:"cluster"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(dump, &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Configs {
		if !strings.HasPrefix(c.Cluster.Name, envoy.ClusterAPIPrefix) {
			continue
		}
		apis++
		s := c.Cluster.Subsets
		if s.Fallback != "" && s.Fallback != "NO_FALLBACK" || fmt.Sprint(s.Selectors) != "[{["+envoy.LBEnv+"]}]" {
			t.Errorf("cluster %s has subsets %+v", c.Cluster.Name, s)
		}
		for _, l := range c.Cluster.Endpoints.Localities {
			for _, e := range l.Endpoints {
				if env := e.Metadata.Filter[envoy.LBMetadata][envoy.LBEnv]; env != envoy.EnvProduction && env != envoy.EnvSandbox {
					t.Errorf("cluster %s has an endpoint of environment %q", c.Cluster.Name, env)
				}
			}
		}
	}
	return apis
}
