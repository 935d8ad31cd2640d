//go:build !short

package xds_test

import (
	"slices"
	"testing"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
	"tollgate/xds"
)

// Every spelling of a host leads to the same API or to nothing at all.
func TestOneHostForEverybody(t *testing.T) {
	g := newGateway(t, setup{
		group: func(x *xds.Group) { x.Hosts = []string{host, "b.example.com"} },
		apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
			return []*keymanager.API{ // the same context on a host of its own
				api("other-pets", "/pets", "1.0.0", func(a *keymanager.API) {
					a.Hosts, a.Production = []string{"other.example.com"}, []string{b["root"].URL("/other")}
				}),
			}
		},
	})
	const path = "/pets/1.0.0/x"
	pets := want{200, "pets", path, "pets", "/v1/pets/x"}
	other := want{200, "other-pets", path, "root", "/other/x"}
	line := func(h string) string { return "Host: " + h }
	for _, tc := range []struct {
		name    string
		request string
		want
	}{
		{"the host", envoytest.Request("GET", path, host), pets},
		{"upper case", envoytest.Request("GET", path, "API.EXAMPLE.COM"), pets},
		{"a port", envoytest.Request("GET", path, host+":8443"), pets},
		{"port 0", envoytest.Request("GET", path, host+":0"), pets},
		{"a final dot", envoytest.Request("GET", path, host+"."), pets},
		{"another host of the group", envoytest.Request("GET", path, "b.example.com"), pets},
		{"another API of the same context", envoytest.Request("GET", path, "other.example.com"), other},
		{"absolute form wins", envoytest.Request("GET", "http://"+host+path, "other.example.com"), pets},
		{"absolute form of another host", envoytest.Request("GET", "http://other.example.com"+path, host), other},
		{"two hosts", envoytest.Request("GET", path, host, line("other.example.com")), want{status: 404}},
		{"the same host twice", envoytest.Request("GET", path, host, line(host)), want{status: 404}},
		{"no host", envoytest.Request("GET", path, ""), want{status: 400}},
		{"unknown host", envoytest.Request("GET", path, "evil.example.com"), want{status: 404}},
		{"a suffix of the host", envoytest.Request("GET", path, "x."+host), want{status: 404}},
		{"userinfo", envoytest.Request("GET", path, "u:p@"+host), want{status: 404}},
		{"userinfo that names the host", envoytest.Request("GET", path, host+"@evil.example.com"), want{status: 404}},
		{"a port that is no number", envoytest.Request("GET", path, host+":x"), want{status: 404}},
		{"two ports", envoytest.Request("GET", path, host+":80:81"), want{status: 404}},
		{"a list", envoytest.Request("GET", path, host+", other.example.com"), want{status: 400}},
		{"a space", envoytest.Request("GET", path, host+" other.example.com"), want{status: 400}},
		{"a byte above ASCII", envoytest.Request("GET", path, host+"\xff"), want{status: 400}},
	} {
		t.Run("E6 "+tc.name, func(t *testing.T) {
			g.try(t, tc.want, func() envoytest.Reply { return envoytest.Raw(t, g.addr, tc.request) })
		})
	}
	h2 := func(fields ...envoytest.Field) func() envoytest.Reply {
		all := append([]envoytest.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path}}, fields...)
		slices.SortStableFunc(all, func(a, b envoytest.Field) int { // pseudo headers first
			return map[bool]int{true: 1}[b.Name[0] == ':'] - map[bool]int{true: 1}[a.Name[0] == ':']
		})
		return func() envoytest.Reply { return envoytest.DialH2(t, g.addr).Do(envoytest.H2Request{Fields: all}) }
	}
	authority := func(v string) envoytest.Field { return envoytest.Field{Name: ":authority", Value: v} }
	hostField := func(v string) envoytest.Field { return envoytest.Field{Name: "host", Value: v} }
	for _, tc := range []struct {
		name   string
		fields []envoytest.Field
		want
	}{
		{"h2 :authority", []envoytest.Field{authority("API.example.com:443")}, pets},
		{"h2 :authority wins over host", []envoytest.Field{authority(host), hostField("other.example.com")}, pets},
		{"h2 host wins nothing", []envoytest.Field{authority("evil.example.com"), hostField(host)}, want{status: 404}},
		{"h2 host alone", []envoytest.Field{hostField(host)}, pets},
		{"h2 :authority twice", []envoytest.Field{authority(host), authority("other.example.com")}, want{}},
		{"h2 neither", nil, want{}},
	} {
		t.Run("E6 "+tc.name, func(t *testing.T) { g.try(t, tc.want, h2(tc.fields...)) })
	}
	if g.envoy.State() != "LIVE" {
		t.Error("Envoy is not LIVE any more")
	}
}
