package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listedAPIs is what "tollgate get apis -o json" prints.
const listedAPIs = `[{"kind": "API", "organization": "default", "name": "pets/1.0.0", "id": "0c8a", "revision": 3,
 "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
 "spec": {"version": "1.0.0", "context": "/pets", "protocol": "http1", "timeout": "30s", "production": ["http://10.0.0.1:8080/v1"],
  "resources": [{"method": "GET", "path": "/*", "authType": "Any"}], "tiers": ["Unlimited"], "state": "PUBLISHED"}}]`

func TestEnvoyStatic(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := write("apis.json", listedAPIs)
	base := []string{"envoy", "static", "--state", dir, "--memory", "1GiB"}
	text, err := runCommand(t, append(base, "--apis", list, "--format", "yaml", "--listen", "0.0.0.0:8443", "--cert", "/c.pem", "--key", "/k.pem")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`api_id: "0c8a"`, `rev: "0"`, `name: "tollgate.authz"`, `name: "tollgate.strip"`, `path_separated_prefix: "/pets/1.0.0"`,
		`filename: "/k.pem"`, `- name: "pair/listener"`, `port_value: 8443`, filepath.Join(dir, fileAuthzSock), `normalize_path: true`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not there", want)
		}
	}
	for _, no := range []string{"dynamic_resources", "xds_cluster", "ads:"} {
		if strings.Contains(text, no) {
			t.Errorf("%s is there", no)
		}
	}
	one := write("api.json", strings.Trim(listedAPIs, "[]"))
	if _, err := runCommand(t, append(base, "--apis", one)...); err != nil {
		t.Errorf("one API alone: %v", err)
	}
	without := write("without.json", strings.Replace(listedAPIs, `"production": ["http://10.0.0.1:8080/v1"],`, "", 1))
	if text, err := runCommand(t, append(base, "--apis", without, "--skip-refused")...); err != nil || !strings.Contains(text, "left out: API pets/1.0.0 of default: no endpoint") {
		if err == nil || !strings.Contains(err.Error(), "production") { // the same rule, of the key manager
			t.Errorf("%v: %.300s", err, text)
		}
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no credentials":   {nil, "admin.json is not there"},
		"no file":          {[]string{"--apis", filepath.Join(dir, "none")}, "--apis"},
		"not JSON":         {[]string{"--apis", write("bad.json", "kind: API")}, "tollgate get apis -o json"},
		"a document":       {[]string{"--apis", write("doc.json", `{"kind":"API","name":"a/1"}`)}, "not an API with its id"},
		"an unknown field": {[]string{"--apis", write("new.json", `{"kind":"API","name":"a/1","new":1}`)}, "unknown field"},
		"clear text":       {[]string{"--apis", list, "--listen", "0.0.0.0:80"}, "--listen is clear text"},
		"no address":       {[]string{"--apis", list, "--listen", ":80"}, "--listen is not IP:PORT"},
		"half a pair":      {[]string{"--apis", list, "--cert", "/c"}, "--cert and --key belong together"},
		"a relative key":   {[]string{"--apis", list, "--cert", "/c", "--key", "k"}, "--key is not an absolute path"},
		"gateway groups": {[]string{"--apis", list, "--config", write("groups.yaml",
			"xds: {groups: [{name: edge, hosts: [localhost], listeners: [{address: \"127.0.0.1:8080\"}]}]}\n")}, "xds.groups"},
		"xds too":           {[]string{"--apis", list, "--xds", "/x"}, "a static configuration has neither"},
		"a bootstrap error": {[]string{"--apis", list, "--admin", "x"}, "--admin is neither"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := runCommand(t, append(base, tc.args...)...); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}
