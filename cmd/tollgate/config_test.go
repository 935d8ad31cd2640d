package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

// shippedRoles are the roles of the process that a shipped file is for; all of
// them where none is named.
var shippedRoles = map[string][]string{"keymanager.yaml": {"keymanager"}, "authz.yaml": {"authz"}, "xds.yaml": {"xds"}}

// Every configuration file that is shipped loads.
func TestShippedConfigurations(t *testing.T) {
	var files []string
	for _, pattern := range []string{"embedded.yaml", "production/*.yaml", "compose/*.yaml"} {
		found, err := filepath.Glob(filepath.Join("..", "..", "deploy", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatal("no file in deploy")
	}
	for _, file := range files {
		r, err := parseRoles(shippedRoles[filepath.Base(file)])
		if err != nil {
			t.Fatal(err)
		}
		cfg, at, err := parseConfigFile(file, nil)
		if err == nil {
			err = checkConfig(&cfg, r, at) // what it names is not on this machine
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// The file for the embedded set-up shows the defaults, all of them.
func TestEmbeddedConfigurationIsTheDefault(t *testing.T) {
	file := filepath.Join("..", "..", "deploy", "embedded.yaml")
	got, err := readConfig(file, nil, allRoles)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Store.MaxConnections = got.Store.MaxConnections // follow the number of CPUs
	want.Envoy.Concurrency = got.Envoy.Concurrency
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-default +%s)\n%s", file, diff)
	}
	_, at, err := parseConfigFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	eachSetting(&got, func(key string, _ reflect.Value) {
		if !at.fromFile(key) {
			t.Errorf("%s does not show %s", file, key)
		}
	})
}

func TestConfigRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, yaml string
		env        []string
		want       []string // parts of the message, one for each line of it
	}{
		{name: "unknown key", yaml: "log:\n  colour: info\n", want: []string{`c.yaml:2: unknown key "colour"; allowed: format, level`}},
		{name: "unknown section", yaml: "\nloging: {}\n", want: []string{`c.yaml:2: unknown key "loging"`}},
		{name: "duplicate key", yaml: "log:\n  level: info\n  level: warn\n", want: []string{`c.yaml:3: mapping key "level" already defined at line 2`}},
		{name: "duplicate section", yaml: "log: {}\nops: {}\nlog: {}\n", want: []string{`c.yaml:3: mapping key "log" already defined at line 1`}},
		{name: "two documents", yaml: "log: {}\n---\nops: {}\n", want: []string{"c.yaml:2: one document is allowed"}},
		{name: "not YAML", yaml: "log: [\n", want: []string{"c.yaml:"}},
		{name: "a section that is a text", yaml: "log: info\n", want: []string{"c.yaml:1: want a section, found a text"}},
		{name: "a number that is a text", yaml: "authz:\n  cache_entries: many\n", want: []string{"c.yaml:2: want a whole number, found a text"}},
		{name: "duration without unit", yaml: "authz:\n  max_stale: 300\n", want: []string{`c.yaml:2: "300" is not a duration such as`}},
		{name: "every problem is named", yaml: "log:\n  level: loud\nauthz:\n  max_stale: 20m\n  cache: maybe\n", want: []string{
			`c.yaml:2: log.level: "loud" is not one of debug, info, warn, error`,
			`c.yaml:5: authz.cache: "maybe" is not one of on, off`,
			`c.yaml:4: authz.max_stale: 20m is not between 1s and 10m`,
		}},
		{name: "clear text beyond this machine", yaml: "gateway:\n  address: 0.0.0.0:8080\n", want: []string{"c.yaml:2: gateway.address:", "127.0.0.1"}},
		{name: "no port", yaml: "ops:\n  address: 127.0.0.1\n", want: []string{"c.yaml:2: ops.address:"}},
		{name: "port out of range", yaml: "ops:\n  address: 127.0.0.1:65536\n", want: []string{"c.yaml:2: ops.address:"}},
		{name: "one address twice", yaml: "ops:\n  address: 127.0.0.1:8080\n", want: []string{`c.yaml:2: ops.address: "127.0.0.1:8080" is also gateway.address`}},
		{name: "a host with a port", yaml: "gateway:\n  hosts: [\"api.example.com:8080\"]\n", want: []string{"c.yaml:2: gateway.hosts:"}},
		{name: "a DSN for another database", yaml: "store:\n  dsn: mysql://u:canary@h/d\n", want: []string{"c.yaml:2: store.dsn: must be postgres://"}},
		{name: "a relative socket", yaml: "authz:\n  socket: authz.sock\n", want: []string{"c.yaml:2: authz.socket:"}},
		{name: "both DSN and file", yaml: "store:\n  dsn: postgres://h/d\n  dsn_file: /x\n", want: []string{"store.dsn: give dsn or dsn_file"}},
		{name: "unknown variable", env: []string{"TOLLGATE_LOG_COLOUR=info"}, want: []string{"TOLLGATE_LOG_COLOUR: no setting has this name"}},
		{name: "bad variable", env: []string{"TOLLGATE_AUTHZ_MAX_STALE=20m"}, want: []string{"TOLLGATE_AUTHZ_MAX_STALE: authz.max_stale: 20m is not between"}},
		{name: "bad number in a variable", env: []string{"TOLLGATE_AUTHZ_CACHE_ENTRIES=x"}, want: []string{`TOLLGATE_AUTHZ_CACHE_ENTRIES: "x" is not a whole number`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, at, err := parseConfig("c.yaml", []byte(tc.yaml), tc.env)
			if err == nil {
				err = checkConfig(&cfg, roles{}, at)
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not hold %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "main.") {
				t.Errorf("error %q shows a secret or a Go type", err)
			}
		})
	}
}

func TestConfigEnvironment(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	dsn := filepath.Join(dir, "dsn")
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "log: {level: warn}\nstore: {dsn: \"postgres://a/file\"}\n", 0o644)
	write(dsn, "postgres://u:canary@h/secret\n", 0o600)
	cfg, err := readConfig(file, []string{
		"HOME=/root",
		"TOLLGATE_LOG_FORMAT=json",
		"TOLLGATE_GATEWAY_HOSTS=a.example.com, b.example.com",
		"TOLLGATE_AUTHZ_MAX_STALE=5s",
		"TOLLGATE_STORE_DSN_FILE=" + dsn,
		"TOLLGATE_PORT=tcp://10.0.0.1:80", // set by Kubernetes for a Service named tollgate
		"TOLLGATE_XDS_SERVICE_HOST=10.0.0.2",
	}, allRoles)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Log = LogConfig{Level: "warn", Format: "json"}
	want.Gateway.Hosts = []string{"a.example.com", "b.example.com"}
	want.Authz.MaxStale = Duration(5 * time.Second)
	want.Store.DSN = "postgres://u:canary@h/secret"
	if diff := cmp.Diff(want, cfg, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	shown, err := yaml.Marshal(cfg)
	if err != nil || strings.Contains(string(shown), "canary") {
		t.Errorf("shown, %v:\n%s", err, shown)
	}
	write(dsn, "", 0o600)
	if err := os.Chmod(dsn, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig("", []string{"TOLLGATE_STORE_DSN_FILE=" + dsn}, allRoles); err == nil || !strings.Contains(err.Error(), "chmod 640") {
		t.Errorf("a secret that others can read: %v", err)
	}
}

// Whatever the file holds, loading it ends, and what loads is valid, and is
// the same after it was written and loaded again.
func FuzzConfig(f *testing.F) {
	if data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "embedded.yaml")); err == nil {
		f.Add(data)
	}
	for _, seed := range []string{"", "log: {level: debug}\n", "authz:\n  max_stale: 1h30m\n", "a: &a [*a]\n",
		"gateway: {hosts: [a, b]}\n", "log: null\n", "---\n---\n", "log:\n  level: info\n  level: warn\n", "\xff", "!!binary x: y"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, at, err := parseConfig("c.yaml", data, nil)
		if err != nil {
			return
		}
		valid := checkConfig(&cfg, roles{}, at)
		if cfg.Store.DSN != "" {
			return // is not written
		}
		text, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, at, err := parseConfig("c.yaml", text, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if (checkConfig(&again, roles{}, at) == nil) != (valid == nil) {
			t.Fatalf("valid first: %v, then the other way round\n%s", valid, text)
		}
		if valid == nil {
			if diff := cmp.Diff(cfg, again, cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
