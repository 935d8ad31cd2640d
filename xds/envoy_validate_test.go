//go:build !short

package xds_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/envoy/process"
)

// The real Envoy accepts every golden file: what is pushed, written into the
// gateway's bootstrap as static resources.
func TestEnvoyAcceptsTheGoldenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/out/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, envoytest.NewCA(t).PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(t.TempDir(), "secrets.json")
	if err := os.WriteFile(secrets, []byte(`{"resources": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run("E44 "+filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var golden struct{ Clusters, Listeners, Scopes []any }
			if err := json.Unmarshal(raw, &golden); err != nil {
				t.Fatal(err)
			}
			boot, err := bootstrap.Render(bootstrap.Options{
				NodeID: "golden", Group: "default", XDS: "/tmp/xds.sock", Authz: "/tmp/authz.sock",
			})
			if err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			if err := json.Unmarshal(boot, &doc); err != nil {
				t.Fatal(err)
			}
			delete(doc, "dynamic_resources")
			static := doc["static_resources"].(map[string]any)
			static["clusters"] = append(static["clusters"].([]any), golden.Clusters...)
			static["listeners"] = golden.Listeners
			filled := 0
			each(static, func(m map[string]any) {
				// A static table has its scopes inside.
				if m["scoped_rds"] != nil {
					delete(m, "scoped_rds")
					delete(m, "rds_config_source")
					m["scoped_route_configurations_list"] = map[string]any{"scoped_route_configurations": golden.Scopes}
					filled++
				}
				// There is no stream that secrets could come by: a file takes its place.
				if _, ok := m["sds_config"].(map[string]any); ok {
					m["sds_config"] = map[string]any{"path_config_source": map[string]any{"path": secrets}}
				}
				if c, ok := m["trusted_ca"].(map[string]any); ok {
					c["filename"] = ca // Envoy reads it
				}
			})
			if filled != len(golden.Listeners) || len(golden.Scopes) == 0 || len(golden.Clusters) == 0 {
				t.Fatalf("%d of %d listeners have scopes", filled, len(golden.Listeners))
			}
			if raw, err = json.Marshal(doc); err != nil {
				t.Fatal(err)
			}
			if err := process.Validate(deadline(t), envoytest.Binary(t), raw); err != nil {
				t.Error(err)
			}
		})
	}
}

// each calls fn for every object in v.
func each(v any, fn func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		fn(v)
		for _, inner := range v {
			each(inner, fn)
		}
	case []any:
		for _, inner := range v {
			each(inner, fn)
		}
	}
}
