//go:build !short

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// plainEnvoy is the configuration that a mesh would generate, as far as its
// patches refer to it: a connection manager with ext_authz, a route to the API
// and one that nobody has patched. FILTER is the name of ext_authz.
const plainEnvoy = `
admin: {address: {pipe: {path: DIR/admin.sock}}}
static_resources:
  listeners:
    - name: http
      address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
      default_filter_chain:
        filters:
          - name: envoy.filters.network.http_connection_manager
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: mesh
              use_remote_address: true
              normalize_path: true
              http_filters:
                - name: FILTER
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                    transport_api_version: V3
                    grpc_service: {timeout: 5s, envoy_grpc: {cluster_name: tollgate}}
                - name: envoy.filters.http.router
                  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
              route_config:
                name: http
                virtual_hosts:
                  - name: all
                    domains: ["*"]
                    routes:
                      - {name: pets-1.0.0, match: {path_separated_prefix: /pets/1.0.0}, route: {cluster: pets, prefix_rewrite: ""}}
                      - {name: forgotten, match: {path_separated_prefix: /forgotten}, route: {cluster: pets}}
  clusters:
    - name: tollgate
      type: STATIC
      load_assignment: {cluster_name: tollgate, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: AUTHZ}}}}]}]}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
    - name: pets
      type: STATIC
      load_assignment: {cluster_name: pets, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: BACKEND}}}}]}]}
`

type object = map[string]any

// at walks down keys and indices.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(object)[step]
		case int:
			v = v.([]any)[step]
		}
		if v == nil {
			t.Fatalf("nothing at %v", path)
		}
	}
	return v
}

// documents reads the YAML documents of a file of deploy/envoy, of one kind.
func documents(t *testing.T, file, kind, api string) []object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "envoy", file))
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(bytes.ReplaceAll(text, []byte("API_ID"), []byte(api))))
	var out []object
	for {
		var doc object
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if doc["apiVersion"] == nil || doc["kind"] == nil || doc["spec"] == nil {
			t.Errorf("%s: a document without apiVersion, kind or spec", file)
		}
		if doc["kind"] == kind {
			out = append(out, doc)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no %s", file, kind)
	}
	return out
}

// merge lays b over a as protobuf's merge does for messages.
func merge(a, b object) {
	for key, v := range b {
		inner, ok := v.(object)
		if have, both := a[key].(object); ok && both {
			merge(have, inner)
			continue
		}
		a[key] = v
	}
}

// patchIstio applies the EnvoyFilter of istio.yaml, and what the provider of
// the mesh's configuration says of ext_authz.
func patchIstio(t *testing.T, config object, api string) {
	t.Helper()
	hcm := at(t, config, "static_resources", "listeners", 0, "default_filter_chain", "filters", 0).(object)
	authz := at(t, hcm, "typed_config", "http_filters", 0).(object)
	provider := at(t, documents(t, "istio.yaml", "IstioOperator", api)[0], "spec", "meshConfig", "extensionProviders", 0, "envoyExtAuthzGrpc")
	status, err := strconv.Atoi(at(t, provider, "statusOnError").(string))
	if err != nil || at(t, provider, "timeout") != "0.5s" || provider.(object)["failOpen"] != false {
		t.Errorf("the provider: %v, %v", provider, err)
	}
	merge(authz["typed_config"].(object), object{"status_on_error": object{"code": status}})
	policy := documents(t, "istio.yaml", "AuthorizationPolicy", api)[0]
	if fmt.Sprint(at(t, policy, "spec", "rules")) != "[map[]]" {
		t.Errorf("the policy leaves something out: %v", at(t, policy, "spec", "rules"))
	}
	routes := at(t, hcm, "typed_config", "route_config", "virtual_hosts", 0, "routes").([]any)
	for _, p := range at(t, documents(t, "istio.yaml", "EnvoyFilter", api)[0], "spec", "configPatches").([]any) {
		value := at(t, p, "patch", "value").(object)
		switch at(t, p, "applyTo") {
		case "NETWORK_FILTER":
			merge(hcm, value)
		case "HTTP_FILTER":
			merge(authz, value)
		case "HTTP_ROUTE":
			name := at(t, p, "match", "routeConfiguration", "vhost", "route", "name")
			for _, r := range routes {
				if r := r.(object); r["name"] == name {
					merge(r, value)
				}
			}
		default:
			t.Errorf("a patch of %v", p)
		}
	}
}

// patchEnvoyGateway applies the EnvoyPatchPolicy of envoy-gateway.yaml, and the
// per-route switch that Envoy Gateway generates.
func patchEnvoyGateway(t *testing.T, config object, api string) {
	t.Helper()
	listener := at(t, config, "static_resources", "listeners", 0)
	hcm := at(t, listener, "default_filter_chain", "filters", 0, "typed_config").(object)
	filter := at(t, hcm, "http_filters", 0).(object)
	filter["disabled"] = true
	for _, r := range at(t, hcm, "route_config", "virtual_hosts", 0, "routes").([]any) {
		r.(object)["typed_per_filter_config"] = object{filter["name"].(string): object{
			"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": object{
				"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "check_settings": object{}},
		}}
	}
	client := documents(t, "envoy-gateway.yaml", "ClientTrafficPolicy", api)[0]
	if at(t, client, "spec", "path", "escapedSlashesAction") != "RejectRequest" || at(t, client, "spec", "headers", "withUnderscoresAction") != "RejectRequest" {
		t.Error("the listener is open to other spellings")
	}
	merge(hcm, object{"merge_slashes": true, "path_with_escaped_slashes_action": "REJECT_REQUEST",
		"common_http_protocol_options": object{"headers_with_underscores_action": "REJECT_REQUEST"}})
	security := at(t, documents(t, "envoy-gateway.yaml", "SecurityPolicy", api)[0], "spec", "extAuth").(object)
	if security["failOpen"] != false {
		t.Error("the policy fails open")
	}
	var headers []any
	for _, name := range security["headersToExtAuth"].([]any) {
		headers = append(headers, object{"exact": name})
	}
	merge(filter["typed_config"].(object), object{"allowed_headers": object{"patterns": headers}})
	for _, p := range at(t, documents(t, "envoy-gateway.yaml", "EnvoyPatchPolicy", api)[0], "spec", "jsonPatches").([]any) {
		root := listener
		if strings.HasSuffix(at(t, p, "type").(string), "RouteConfiguration") {
			root = hcm["route_config"]
		}
		var path []any
		for _, token := range strings.Split(at(t, p, "operation", "path").(string), "/")[1:] {
			token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
			if n, err := strconv.Atoi(token); err == nil {
				path = append(path, n)
			} else {
				path = append(path, token)
			}
		}
		at(t, root, path[:len(path)-1]...).(object)[path[len(path)-1].(string)] = at(t, p, "operation", "value")
	}
}

// addLaterRoute adds a route as a later version might write it: as that of the
// API, for those who ask for it, and with one more word in the context.
func addLaterRoute(t *testing.T, config object) {
	t.Helper()
	routes := at(t, config, "static_resources", "listeners", 0, "default_filter_chain", "filters", 0, "typed_config", "route_config", "virtual_hosts", 0).(object)
	list := routes["routes"].([]any)
	raw, err := json.Marshal(list[0])
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	const context = `"context_extensions":{`
	if strings.Count(text, context) != 1 {
		t.Fatalf("no context in %s", text)
	}
	var later object
	if err := json.Unmarshal([]byte(strings.Replace(text, context, context+`"not_known_yet":"x",`, 1)), &later); err != nil {
		t.Fatal(err)
	}
	later["name"] = "later"
	at(t, later, "match").(object)["headers"] = []any{object{"name": "x-later", "present_match": true}}
	routes["routes"] = append([]any{later}, list...)
}

// A mesh with the patches of deploy/envoy asks our authz as it must, and
// refuses what it must.
func TestMeshes(t *testing.T) {
	r, p := dev(t)
	tok := token(t, r, "demo.json")
	var api struct{ ID string }
	if err := json.Unmarshal([]byte(r.Tollgate("get", "api", "pets/1.0.0", "-o", "json")), &api); err != nil || api.ID == "" {
		t.Fatal(err)
	}
	_, backend, err := net.SplitHostPort(r.Production)
	if err != nil {
		t.Fatal(err)
	}
	meshes := map[string]string{} // name → address
	for name, mesh := range map[string]struct {
		filter string
		patch  func(*testing.T, object, string)
	}{
		"Istio":         {"envoy.filters.http.ext_authz", patchIstio},
		"Envoy Gateway": {"envoy.filters.http.ext_authz/securitypolicy/default/tollgate", patchEnvoyGateway},
	} {
		dir, port := envoytest.Dir(t), rig.FreePorts(t, 1)[0]
		_, number, err := net.SplitHostPort(port)
		if err != nil {
			t.Fatal(err)
		}
		var config object
		text := strings.NewReplacer("FILTER", mesh.filter, "PORT", number, "BACKEND", backend, "DIR", dir,
			"AUTHZ", filepath.Join(r.State, "authz.sock")).Replace(plainEnvoy)
		if err := yaml.Unmarshal([]byte(text), &config); err != nil {
			t.Fatal(err)
		}
		mesh.patch(t, config, api.ID)
		addLaterRoute(t, config)
		raw, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		r.StartEnvoy(r.File(strings.ReplaceAll(name, " ", "-")+".json", string(raw)))
		rig.Eventually(t, name, func() error {
			_, err := rig.Do("GET", "http://"+port+"/none")
			return err
		})
		meshes[name] = port
	}
	for _, round := range []string{"with authz", "without authz"} {
		for name, addr := range maps.All(meshes) {
			for what, tc := range map[string]struct {
				path   string
				header []string
				status int
				gone   int // the status without authz
			}{
				"a token":                    {"/pets/1.0.0/pets", []string{"Authorization", "Bearer " + tok}, 200, 503},
				"no token":                   {"/pets/1.0.0/pets", nil, 401, 503},
				"a bad token":                {"/pets/1.0.0/pets", []string{"Authorization", "Bearer x" + tok}, 401, 503},
				"a context of later":         {"/pets/1.0.0/pets", []string{"Authorization", "Bearer " + tok, "X-Later", "1"}, 200, 503},
				"no token, of later":         {"/pets/1.0.0/pets", []string{"X-Later", "1"}, 401, 503},
				"a route without the API":    {"/forgotten/x", []string{"Authorization", "Bearer " + tok}, 503, 503},
				"the API by another path":    {"/forgotten/../pets/1.0.0/pets", []string{"Authorization", "Bearer " + tok}, 200, 503},
				"an escaped slash":           {"/pets/1.0.0%2Fpets", []string{"Authorization", "Bearer " + tok}, 400, 400},
				"a header with underscores":  {"/pets/1.0.0/pets", []string{"Authorization", "Bearer " + tok, "x_tollgate_user", "root"}, 400, 400},
				"a user of the client's own": {"/pets/1.0.0/pets", []string{"Authorization", "Bearer " + tok, "X-Tollgate-User", "root"}, 200, 503},
			} {
				a, err := rig.Do("GET", "http://"+addr+tc.path, tc.header...)
				status := tc.status
				if round == "without authz" {
					status = tc.gone
				}
				if err != nil || a.Status != status {
					t.Errorf("%s, %s, %s: %d %s, %v, want %d", name, round, what, a.Status, a.Body, err, status)
					continue
				}
				if status == 200 {
					for h, v := range a.Echo(t).Headers {
						if strings.EqualFold(h, "x-tollgate-user") && v == "root" || strings.EqualFold(h, "authorization") {
							t.Errorf("%s, %s: the back end got %s: %s", name, what, h, v)
						}
					}
				}
			}
		}
		if round == "with authz" {
			p.Stop()
		}
	}
}
