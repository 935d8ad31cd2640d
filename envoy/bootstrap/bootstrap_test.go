package bootstrap

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
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
			file := filepath.Join("testdata", name+".json")
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
		"dns by name":                   {func(o *Options) { o.DNS = "localhost" }, "DNS"},
		"back-off":                      {func(o *Options) { o.BackoffMax = time.Millisecond }, "BackoffMax"},
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
