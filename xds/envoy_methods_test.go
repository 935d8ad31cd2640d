//go:build !short

package xds_test

import (
	"testing"

	"tollgate/envoy/envoytest"
)

// Methods: Envoy decides nothing about them but what it cannot carry; authz is
// asked about every other, and CONNECT tunnels nowhere.
func TestMethods(t *testing.T) {
	g := newGateway(t, setup{})
	const path = "/pets/1.0.0/x"
	denied := want{status: 403, api: "pets", authz: path}
	g.authz.Allow(envoytest.Deny(403, `{"code":"900906"}`))
	for _, tc := range []struct {
		name string
		want
		do func(t *testing.T) envoytest.Reply
	}{
		{"PROPFIND", denied, h1(g, envoytest.Request("PROPFIND", path, host))},
		{"TRACE", denied, h1(g, envoytest.Request("TRACE", path, host))},
		{"QUERY", denied, h1(g, envoytest.Request("QUERY", path, host, "Content-Type: application/json", "Content-Length: 0"))},
		{"QUERY without content-type", want{status: 400}, h1(g, envoytest.Request("QUERY", path, host))},
		{"unknown", want{status: 400}, h1(g, envoytest.Request("FOO", path, host))},
		{"lower case", want{status: 400}, h1(g, envoytest.Request("get", path, host))},
		{"PRI", want{status: 400}, h1(g, envoytest.Request("PRI", path, host))},
		{"CONNECT", want{status: 404}, h1(g, envoytest.Request("CONNECT", host+":443", host))},
		{"CONNECT of a path", want{status: 400}, h1(g, envoytest.Request("CONNECT", path, host))},
		{"HTTP/1.0", want{status: 426}, h1(g, "GET "+path+" HTTP/1.0\r\nHost: "+host+"\r\n\r\n")},
		{"both lengths", want{status: 400}, h1(g, envoytest.Request("POST", path, host,
			"Content-Length: 3", "Transfer-Encoding: chunked")+"0\r\n\r\n")},
		{"two lengths", want{status: 400}, h1(g, envoytest.Request("POST", path, host, "Content-Length: 3", "Content-Length: 4")+"abc")},
		{"h2 TRACE", denied, h2(g, envoytest.Pseudo("TRACE", path, host))},
		{"h2 any token", denied, h2(g, envoytest.Pseudo("FOO", path, host))},
		{"h2 lower case", denied, h2(g, envoytest.Pseudo("get", path, host))},
		{"h2 PRI", denied, h2(g, envoytest.Pseudo("PRI", path, host))},
		{"h2 CONNECT without a path", want{status: 404}, h2(g, []envoytest.Field{
			{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: host}})},
		{"h2 CONNECT with a path", want{}, h2(g, envoytest.Pseudo("CONNECT", path, host))},
		{"h2 extended CONNECT", want{}, h2(g, append([]envoytest.Field{{Name: ":protocol", Value: "websocket"}},
			envoytest.Pseudo("CONNECT", path, host)...))},
		{"h2 no method", want{}, h2(g, envoytest.Pseudo("GET", path, host)[1:])},
		{"h2 method twice", want{}, h2(g, append([]envoytest.Field{{Name: ":method", Value: "GET"}}, envoytest.Pseudo("DELETE", path, host)...))},
		{"h2 path twice", want{}, h2(g, append([]envoytest.Field{{Name: ":path", Value: "/orders/2.0"}}, envoytest.Pseudo("GET", path, host)...))},
		{"h2 relative path", want{}, h2(g, envoytest.Pseudo("GET", "pets/1.0.0", host))},
		{"h2 absolute path", want{}, h2(g, envoytest.Pseudo("GET", "http://"+host+path, host))},
		{"websocket", want{status: 403}, h1(g, envoytest.Request("GET", path, host, "Connection: Upgrade", "Upgrade: websocket"))},
		{"upgrade to anything", want{status: 403}, h1(g, envoytest.Request("GET", path, host, "Connection: Upgrade", "Upgrade: foo"))},
	} {
		t.Run("E12 "+tc.name, func(t *testing.T) {
			g.try(t, tc.want, func() envoytest.Reply { return tc.do(t) })
			if g.envoy.Stat("server.live") != 1 {
				t.Fatal("Envoy does not live any more")
			}
		})
	}
	t.Run("E12 what authz allows passes", func(t *testing.T) {
		g.authz.Allow(envoytest.OK())
		g.try(t, want{200, "pets", path, "pets", "/v1/pets/x"}, func() envoytest.Reply {
			return envoytest.Raw(t, g.addr, envoytest.Request("PROPFIND", path, host))
		})
		if m := g.reached(t, "pets").Method; m != "PROPFIND" {
			t.Errorf("the back end saw %s", m)
		}
	})
}

func h1(g *gateway, request string) func(*testing.T) envoytest.Reply {
	return func(t *testing.T) envoytest.Reply { return envoytest.Raw(t, g.addr, request) }
}

func h2(g *gateway, fields []envoytest.Field) func(*testing.T) envoytest.Reply {
	return func(t *testing.T) envoytest.Reply {
		return envoytest.DialH2(t, g.addr).Do(envoytest.H2Request{Fields: fields})
	}
}
