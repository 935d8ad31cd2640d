package bootstrap

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "rewrite the golden files")

//go:generate go test -tags short -count=1 -run ^TestRender$ . -update

// goldens are one bootstrap of each kind.
var goldens = map[string]Options{
	"production": {
		NodeID: "gw-eu1-7f9c", Group: "edge-public", XDS: "127.0.0.1:18000", Authz: "/run/gateway/authz.sock",
		Admin: "127.0.0.1:9901", HeapLimit: 1 << 30, ConnectionLimit: 20000,
	},
	"embedded": {
		NodeID: "dev", Group: "default", XDS: "/tmp/tollgate/xds.sock", Authz: "/tmp/tollgate/authz.sock",
		Admin: "/tmp/tollgate/admin.sock", BackoffBase: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
	},
	"test": {
		NodeID: "no", Group: "e2e \"quoted\"", XDS: "/tmp/t/xds.sock", Authz: "/tmp/t/authz.sock",
		ConnectionLimit: 200, DNS: "127.0.0.1:5353", APIStats: true, OpenAdmin: true,
		BackoffBase: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
	},
	"mtls": {
		NodeID: "gw-1", Group: "edge", XDSServers: Servers{Addresses: []string{"10.0.0.1:18000", "10.0.0.2:18000"}, Name: "xds.internal"},
		Authz: "/run/tollgate/authz.sock", TLS: gatewayTLS, DNSTimeout: 2 * time.Second, DNSTries: 3,
	},
	"remote": {
		NodeID: "gw-2", Group: "edge", XDSServers: Servers{Addresses: []string{"xds.internal:18000"}},
		AuthzServers:     Servers{Addresses: []string{"authz-1.internal:9191", "authz-2.internal:9191"}, Name: "authz.internal"},
		AccessLogServers: Servers{Addresses: []string{"127.0.0.1:9443"}}, TLS: gatewayTLS, Health: "0.0.0.0:8081",
	},
	"roles": {
		NodeID: "gw-3", Group: "edge", XDSServers: Servers{Addresses: []string{"xds-1.internal:18000", "xds-2.internal:18000"}},
		AuthzServers: Servers{Addresses: []string{"127.0.0.1:9191"}}, AccessLog: "127.0.0.1:9443", TLS: roleTLS, Health: "[::1]:8081",
	},
}

var (
	gatewayTLS = TLS{
		CertFile: "/etc/envoy/tls/tls.crt", KeyFile: "/etc/envoy/tls/tls.key", CAFile: "/etc/envoy/ca/ca.crt",
		SDSDir: "/etc/envoy/sds",
	}
	roleTLS = TLS{
		CertFile: "/etc/envoy/tls/tls.crt", KeyFile: "/etc/envoy/tls/tls.key", CAFile: "/etc/envoy/tls/ca.crt",
		SDSDir: "/etc/envoy/sds", TrustDomain: "example.org",
	}
)

// A bootstrap and its SDS files as people read them.
func TestYAML(t *testing.T) {
	raw, err := Render(goldens["remote"])
	if err != nil {
		t.Fatal(err)
	}
	comments := Comments()
	comments[""] = "First line.\nSecond line."
	text, err := YAML(raw, comments)
	if err != nil {
		t.Fatal(err)
	}
	files, err := goldens["remote"].TLS.SDSFiles()
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text = fmt.Appendf(text, "--- %s\n%s", f.Path, f.Content)
	}
	golden(t, "remote.yaml", text)
	for key := range Comments() {
		if !strings.Contains(string(text), "# "+Comments()[key]) {
			t.Errorf("the comment of %s is not there", key)
		}
	}
	for name, opts := range goldens {
		raw, err := Render(opts)
		if err != nil {
			t.Fatal(err)
		}
		text, err := YAML(raw, comments)
		if err != nil {
			t.Fatal(err)
		}
		var one, other any
		if err := errors.Join(yaml.Unmarshal(text, &one), yaml.Unmarshal(raw, &other)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(other, one); diff != "" {
			t.Errorf("%s: YAML says something else (-JSON +YAML):\n%s", name, diff)
		}
	}
}

func TestAPIs(t *testing.T) {
	if n := APIs(3 << 30); n < 70_000 || n > 100_000 {
		t.Errorf("%d APIs in 3 GiB", n)
	}
	if APIs(0) != APIs(3<<29) {
		t.Error("the default is another")
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
}

func TestRender(t *testing.T) {
	for name, opts := range goldens {
		t.Run(name, func(t *testing.T) {
			got, err := Render(opts)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Render(opts); err != nil || !bytes.Equal(got, again) {
				t.Errorf("the second rendering differs: %v", err)
			}
			golden(t, name+".json", got)
		})
	}
}

// Every message, also those inside an Any, is known, valid and not deprecated.
func TestRenderedBootstrapIsValid(t *testing.T) {
	for name, opts := range goldens {
		t.Run(name, func(t *testing.T) {
			raw, err := Render(opts)
			if err != nil {
				t.Fatal(err)
			}
			var b bootstrapv3.Bootstrap
			if err := protojson.Unmarshal(raw, &b); err != nil {
				t.Fatal(err)
			}
			if b.GetNode().GetId() != opts.NodeID || b.GetNode().GetCluster() != opts.Group {
				t.Errorf("node %v", b.GetNode())
			}
			seen := map[protoreflect.FullName]bool{}
			visit := func(p protopath.Values) error {
				if fd := p.Index(-1).Step.FieldDescriptor; p.Index(-1).Step.Kind() == protopath.FieldAccessStep {
					if o, ok := fd().Options().(interface{ GetDeprecated() bool }); ok && o.GetDeprecated() {
						t.Errorf("%s is deprecated", p.Path)
					}
				}
				m, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
				if !ok {
					return nil
				}
				seen[m.Descriptor().FullName()] = true
				if v, ok := m.Interface().(interface{ ValidateAll() error }); ok {
					if err := v.ValidateAll(); err != nil {
						t.Errorf("%s: %v", p.Path, err)
					}
				}
				return nil
			}
			if err := protorange.Range(b.ProtoReflect(), visit); err != nil {
				t.Error(err)
			}
			if !seen["envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"] {
				t.Error("what is inside an Any was not looked at")
			}
		})
	}
}

// remote has xds on other machines.
func remote(o *Options, addresses ...string) {
	o.XDS, o.TLS = "", gatewayTLS
	if o.XDSServers.Addresses = addresses; addresses == nil {
		o.XDSServers.Addresses = []string{"xds.internal:1"}
	}
}

func TestRenderRefuses(t *testing.T) {
	long := "/" + strings.Repeat("x", 107)
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no node":                       {func(o *Options) { o.NodeID = "" }, "NodeID"},
		"no group":                      {func(o *Options) { o.Group = "" }, "Group"},
		"no xds":                        {func(o *Options) { o.XDS = "" }, "XDS"},
		"xds in clear over the network": {func(o *Options) { o.XDS = "10.0.0.1:18000" }, "XDS"},
		"xds by name":                   {func(o *Options) { o.XDS = "xds.internal:18000" }, "XDS"},
		"xds without a port":            {func(o *Options) { o.XDS = "127.0.0.1:0" }, "XDS"},
		"long path":                     {func(o *Options) { o.XDS = long }, "107"},
		"authz by network":              {func(o *Options) { o.Authz = "127.0.0.1:1" }, "Authz"},
		"no authz":                      {func(o *Options) { o.Authz = "" }, "Authz"},
		"long authz":                    {func(o *Options) { o.Authz = long }, "Authz"},
		"admin for everybody":           {func(o *Options) { o.Admin = "0.0.0.0:9901" }, "Admin"},
		"xds twice":                     {func(o *Options) { o.XDSServers = Servers{Addresses: []string{"a:1"}} }, "XDSServers"},
		"no certificate": {func(o *Options) {
			o.XDS, o.XDSServers = "", Servers{Addresses: []string{"a:1"}}
		}, "TLS.CertFile is missing"},
		"relative certificate": {func(o *Options) {
			remote(o)
			o.TLS.CertFile = "tls.crt"
		}, "TLS.CertFile"},
		"certificate and key apart": {func(o *Options) {
			remote(o)
			o.TLS.KeyFile = "/elsewhere/tls.key"
		}, "TLS.CertFile, TLS.KeyFile"},
		"trust domain": {func(o *Options) {
			remote(o)
			o.TLS.TrustDomain = "spiffe://x"
		}, "TLS.TrustDomain"},
		"TLS for nobody":        {func(o *Options) { o.TLS = gatewayTLS }, "TLS has files"},
		"a server without port": {func(o *Options) { remote(o, "a") }, "XDSServers.Addresses"},
		"a server with port 0":  {func(o *Options) { remote(o, "a:0") }, "XDSServers.Addresses"},
		"a server with a URL":   {func(o *Options) { remote(o, "https://a:1") }, "XDSServers.Addresses"},
		"servers without name":  {func(o *Options) { remote(o, "a:1", "b:1") }, "XDSServers.Name"},
		"a name alone":          {func(o *Options) { o.XDS, o.XDSServers.Name = "", "a" }, "XDSServers.Addresses"},
		"a bad name": {func(o *Options) {
			remote(o, "a:1")
			o.XDSServers.Name = "a b"
		}, "XDSServers.Name"},
		"records in clear over the network": {func(o *Options) { o.AccessLog = "10.0.0.1:9443" }, "AccessLog"},
		"health by name":                    {func(o *Options) { o.Health = "localhost:8081" }, "Health"},
		"half a second for DNS":             {func(o *Options) { o.DNSTimeout = time.Second / 2 }, "DNSTimeout"},
		"many questions":                    {func(o *Options) { o.DNSTries = 11 }, "DNSTries"},
		"pings":                             {func(o *Options) { o.AuthzPing, o.AuthzIdlePing = time.Minute, time.Second }, "AuthzPing"},
		"dns by name":                       {func(o *Options) { o.DNS = "localhost" }, "DNS"},
		"back-off":                          {func(o *Options) { o.BackoffMax = time.Millisecond }, "BackoffMax"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := goldens["production"]
			tc.change(&opts)
			if _, err := Render(opts); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that names %s", err, tc.want)
			}
		})
	}
	if _, err := Render(Options{}); err == nil {
		t.Error("the zero Options were rendered")
	}
}
