package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// runCommand runs a command line, and returns what it printed.
func runCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// overTLS are the flags of an Envoy with a certificate.
var overTLS = []string{
	"--tls-cert", "/etc/envoy/tls/tls.crt", "--tls-key", "/etc/envoy/tls/tls.key", "--tls-ca", "/etc/envoy/tls/ca.crt",
}

func TestEnvoyBootstrapRefuses(t *testing.T) {
	state := t.TempDir()
	for name, tc := range map[string]struct {
		args []string
		want []string // lines
	}{
		"xds in clear over the network": {[]string{"--xds", "xds.internal:18000"},
			[]string{"--tls-cert is missing", "--tls-key is missing", "--tls-ca is missing", "--sds-dir or --write-dir is missing"}},
		"no port":              {append([]string{"--xds", "xds.internal", "--sds-dir", "/sds"}, overTLS...), []string{`--xds "xds.internal" is not HOST:PORT`}},
		"several hosts":        {append([]string{"--authz", "a:1,b:1", "--sds-dir", "/sds"}, overTLS...), []string{"--authz-name is missing"}},
		"a socket and servers": {append([]string{"--xds", "/run/x.sock,a:1", "--sds-dir", "/sds"}, overTLS...), []string{`--xds "/run/x.sock" is not HOST:PORT`}},
		"a bad name":           {append([]string{"--xds", "a:1", "--xds-name", "*", "--sds-dir", "/sds"}, overTLS...), []string{"--xds-name is not a DNS name"}},
		"a relative file": {append([]string{"--xds", "a:1", "--sds-dir", "sds"}, overTLS...),
			[]string{`--sds-dir or --write-dir is not an absolute path: "sds"`}},
		"key elsewhere": {append([]string{"--xds", "a:1", "--sds-dir", "/sds"}, append(overTLS, "--tls-key", "/k")...),
			[]string{"--tls-cert, --tls-key lie in two folders"}},
		"a trust domain that is a URL": {append([]string{"--xds", "a:1", "--sds-dir", "/sds", "--trust-domain", "spiffe://x"}, overTLS...),
			[]string{"--trust-domain is not a name"}},
		"a certificate for nobody": {append([]string{"--sds-dir", "/sds"}, overTLS...), []string{"--tls-cert, --tls-key, --tls-ca has files"}},
		"authz on a port":          {[]string{"--authz", "127.0.0.1:9191"}, []string{"--authz is not the absolute path of a Unix socket"}},
		"records in clear":         {[]string{"--access-log", "10.0.0.1:1", "--tls-key", "/k", "--tls-ca", "/c", "--sds-dir", "/s"}, []string{"--tls-cert is missing"}},
		"admin for everybody":      {[]string{"--admin", "0.0.0.0:9901"}, []string{"--admin is not a loopback address"}},
		"health by name":           {[]string{"--health", "localhost:1"}, []string{"--health is not ip:port"}},
		"no node":                  {[]string{"--node", ""}, []string{"--node is missing"}},
		"little memory":            {[]string{"--memory", "64MiB"}, []string{"--memory 64MiB is too little"}},
		"memory of no unit":        {[]string{"--memory", "1073741824"}, []string{`--memory "1073741824" is not a size`}},
		"no connections":           {[]string{"--connections", "0"}, []string{"--connections and --dns-tries"}},
		"dns by name":              {[]string{"--dns", "localhost"}, []string{"--dns is not ip:port"}},
		"half a second":            {[]string{"--dns-timeout", "500ms"}, []string{"--dns-timeout is not a number of whole seconds"}},
		"no time":                  {[]string{"--dns-timeout", "0s"}, []string{"--dns-timeout is not a number"}},
		"many tries":               {[]string{"--dns-tries", "99"}, []string{"--dns-tries is more than 10"}},
		"a format":                 {[]string{"--format", "toml"}, []string{`--format "toml"`}},
		"force alone":              {[]string{"--force"}, []string{"--force is for --write-dir"}},
		"json and secrets":         {append([]string{"--xds", "a:1", "--sds-dir", "/sds", "--format", "json"}, overTLS...), []string{"--format json"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := runCommand(t, append([]string{"envoy", "bootstrap", "--state", state, "--memory", "2GiB"}, tc.args...)...)
			if err == nil {
				t.Fatalf("printed %s", out)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tc.want) {
				t.Errorf("%d lines: %v", len(lines), err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

func TestEnvoyBootstrapPrints(t *testing.T) {
	state := t.TempDir()
	text, err := runCommand(t, "envoy", "bootstrap", "--state", state)
	var doc map[string]any
	if err != nil || json.Unmarshal([]byte(text), &doc) != nil {
		t.Fatalf("%v: not JSON: %s", err, text)
	}
	for _, want := range []string{filepath.Join(state, fileAuthzSock), filepath.Join(state, fileXDSSock), `"cluster": "default"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not there", want)
		}
	}
	text, err = runCommand(t, append([]string{"envoy", "bootstrap", "--state", state, "--format", "yaml", "--xds", "127.0.0.1:18000",
		"--group", "edge", "--node", "gw-7", "--memory", "2GiB", "--sds-dir", "/etc/envoy/sds"}, overTLS...)...)
	if err != nil || yaml.Unmarshal([]byte(text), &doc) != nil {
		t.Fatalf("%v: not YAML: %s", err, text)
	}
	for _, want := range []string{
		"\n# From", "gw-7 of gateway group edge", "--concurrency", `max_heap_size_bytes: 1610612736`, "# sds/client.yaml", "#   resources:",
		`path: "/etc/envoy/sds/client.yaml"`, `tls_maximum_protocol_version: "TLSv1_3"`,
	} {
		if !strings.Contains("\n# From"+text, want) {
			t.Errorf("%s is not there", want)
		}
	}
}

func TestEnvoyBootstrapWrites(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "envoy")
	args := append([]string{"envoy", "bootstrap", "--state", t.TempDir(), "--memory", "2GiB", "--xds", "xds.internal:18000", "--write-dir", dir}, overTLS...)
	out, err := runCommand(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"bootstrap.yaml", "sds/client.yaml", "sds/ca.yaml"}
	for _, f := range files {
		path := filepath.Join(dir, f)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o644 || !strings.Contains(out, path+"\n") {
			t.Errorf("%s: %v, %v; said %s", path, info, err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "bootstrap.yaml"))
	if err != nil || !strings.Contains(string(text), filepath.Join(dir, "sds/client.yaml")) {
		t.Errorf("%v: the bootstrap does not name the SDS files where they are", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sds/ca.yaml"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "bootstrap.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := runCommand(t, args...); err == nil || !strings.Contains(err.Error(), "--force") || !strings.Contains(err.Error(), "ca.yaml are there") {
		t.Errorf("it wrote over files: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bootstrap.yaml")); err == nil {
		t.Error("it wrote some files, and not others")
	}
	if _, err := runCommand(t, append(args, "--force")...); err != nil {
		t.Error(err)
	}
	text, err = os.ReadFile(filepath.Join(dir, "sds/ca.yaml"))
	if err != nil || string(text) == "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestEnvoyDrainRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"--admin":           {},
		"--admin is":        {"--admin", "10.0.0.1:9901"},
		"--rest":            {"--admin", "127.0.0.1:1", "--rest", "0s"},
		"/healthcheck/fail": {"--admin", filepath.Join(t.TempDir(), "none.sock"), "--balancer", "0s"},
	} {
		if _, err := runCommand(t, append([]string{"envoy", "drain"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", args, err, want)
		}
	}
	if err := terminate(os.Getpid()); err == nil || !strings.Contains(err.Error(), "not envoy") {
		t.Errorf("it ended something else: %v", err)
	}
}
