//go:build !short

package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// realEnvoy finds the binary as the other tests with a real Envoy do.
func realEnvoy(t *testing.T) string {
	t.Helper()
	b, err := Find(t.Context(), FindOptions{
		Explicit: os.Getenv("ENVOY_BIN"), Tools: []string{filepath.Join("..", "..", ".tools")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Path
}

// bootstrap has a listener on a port of Envoy's choice that closes each
// connection.
const bootstrap = `{
 "node": {"id": "n1", "cluster": "c1"},
 "admin": {"address": %s},
 "static_resources": {"listeners": [{"name": "tcp-0",
  "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
  "filter_chains": [{"filters": [{"name": "envoy.filters.network.direct_response", "typed_config": {
   "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
   "response": {"inline_string": "hello"}}}]}]}]}}`

func TestRealEnvoy(t *testing.T) {
	binary := realEnvoy(t)
	dir, err := os.MkdirTemp("/tmp", "tollgate-process-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, admin := range map[string]string{
		"admin on a port":   `{"socket_address": {"address": "127.0.0.1", "port_value": 0}}`,
		"admin on a socket": fmt.Sprintf(`{"pipe": {"path": %q, "mode": 384}}`, filepath.Join(dir, "admin.sock")),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Start(Options{Binary: binary, Bootstrap: []byte(fmt.Sprintf(bootstrap, admin)), Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			if err := p.Ready(within(t), "tcp-0"); err != nil {
				t.Fatal(err)
			}
			client, err := p.Admin(within(t))
			if err != nil {
				t.Fatal(err)
			}
			listeners, err := client.Listeners(within(t))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", listeners["tcp-0"])
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 5)
			if _, err := conn.Read(buf); err != nil || string(buf) != "hello" {
				t.Errorf("read %q, %v", buf, err)
			}
			p.Stop()
			gone(t, p.Pid())
			empty(t, dir)
		})
	}
}

func TestRealEnvoyWithoutXDS(t *testing.T) {
	p, err := Start(Options{Binary: realEnvoy(t), Bootstrap: []byte(`{
 "node": {"id": "n1", "cluster": "c1"},
 "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
 "dynamic_resources": {
  "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
   "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
  "lds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}},
 "static_resources": {"clusters": [{"name": "xds", "type": "STATIC", "load_assignment": {"cluster_name": "xds",
  "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/nonexistent/xds.sock"}}}}]}]}}]}}`)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = p.Ready(ctx)
	if err == nil || !strings.Contains(err.Error(), "INITIALIZING") || !strings.Contains(err.Error(), "no connection to xds") {
		t.Errorf("error %v", err)
	}
}

func TestValidate(t *testing.T) {
	binary := realEnvoy(t)
	good := fmt.Sprintf(bootstrap, `{"socket_address": {"address": "127.0.0.1", "port_value": 0}}`)
	if err := Validate(within(t), binary, []byte(good)); err != nil {
		t.Error(err)
	}
	bad := strings.Replace(good, `"node"`, `"nodes"`, 1)
	if err := Validate(within(t), binary, []byte(bad)); err == nil || !strings.Contains(err.Error(), "nodes") {
		t.Errorf("error %v", err)
	}
}
