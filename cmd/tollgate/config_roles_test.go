package main

import (
	"strings"
	"testing"
)

const tlsYAML = "tls: {cert_file: /c, key_file: /k, ca_file: /a, trust_domain: example.com}\n"

// What a process with these roles cannot work with, or what would be without
// effect there, is refused with its line.
func TestConfigForRoles(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml  string
		env   []string
		roles roles
		want  []string // parts of the message; none = it is good
	}{
		"a database for authz":          {"store:\n  dsn: postgres://h/d\n", nil, roles{authz: true}, []string{"c.yaml:2: store.dsn: is read by keymanager, and this process runs authz"}},
		"a pepper for xds":              {"keys:\n  pepper_file: /p\n", nil, roles{xds: true}, []string{"c.yaml:2: keys.pepper_file: is read by keymanager"}},
		"a tag key for authz":           {"keys:\n  tag_file: /p\n", nil, roles{authz: true}, nil},
		"a default for another role":    {"store:\n  dsn: \"\"\nredis: {timeout: 30ms}\n", nil, roles{xds: true}, nil},
		"the environment of all":        {"", []string{"TOLLGATE_STORE_DSN=postgres://h/d"}, roles{authz: true}, nil},
		"Redis for a key manager":       {"redis:\n  mode: single\n  addresses: [\"r:6379\"]\n", nil, roles{keyManager: true}, []string{"c.yaml:2: redis.mode: is read by authz", "c.yaml:3: redis.addresses:"}},
		"servers beside a key manager":  {"rpc:\n  servers: [/run/rpc.sock]\n", nil, allRoles, []string{"c.yaml:2: rpc.servers: the key manager runs in this process"}},
		"values alone":                  {"store:\n  dsn: postgres://h/d\nrpc:\n  servers: [/run/rpc.sock]\n", nil, roles{}, nil},
		"two roles, one certificate":    {tlsYAML + "rpc: {servers: [\"km:9092\"]}\n", nil, roles{authz: true, xds: true}, []string{"tls.cert_file: a certificate is for one role"}},
		"sockets and addresses":         {tlsYAML + "rpc: {servers: [\"km:9092\", /run/rpc.sock]}\n", nil, roles{xds: true}, []string{"rpc.servers: name addresses"}},
		"plain servers elsewhere":       {"rpc:\n  servers: [\"km:9092\"]\n", nil, roles{xds: true}, []string{`c.yaml:2: rpc.servers: "km:9092" is not on this machine and needs TLS: set tls.cert_file`}},
		"plain key manager":             {"keymanager:\n  address: 0.0.0.0:9090\n", nil, allRoles, []string{"c.yaml:2: keymanager.address:", "or set keymanager.cert_file"}},
		"plain xds":                     {"xds:\n  address: 0.0.0.0:9094\n", nil, allRoles, []string{"c.yaml:2: xds.address:", "or set tls.cert_file"}},
		"plain rpc":                     {"rpc:\n  address: \"[::]:9092\"\n", nil, allRoles, []string{"c.yaml:2: rpc.address:", "or set tls.cert_file"}},
		"plain remote authz":            {"authz:\n  address: 10.0.0.1:9093\n", nil, allRoles, []string{"c.yaml:2: authz.address:", "or set tls.cert_file"}},
		"remote authz":                  {tlsYAML + "authz:\n  address: 10.0.0.1:9093\n", nil, allRoles, nil},
		"half of tls":                   {"tls:\n  cert_file: /c\n", nil, allRoles, []string{"tls.key_file: is missing", "tls.ca_file: is missing", "tls.trust_domain: is missing"}},
		"half of HTTPS":                 {"keymanager:\n  cert_file: /c\n", nil, allRoles, []string{"keymanager.key_file: is missing: keymanager.cert_file is set"}},
		"Redis without mode":            {"redis:\n  addresses: [\"r:6379\"]\n", nil, allRoles, []string{"redis.mode: is missing"}},
		"Redis of no kind":              {"redis:\n  mode: ring\n  addresses: [\"r:6379\"]\n", nil, allRoles, []string{`c.yaml:2: redis.mode: "ring" is not one of single, sentinel, cluster`}},
		"two single servers":            {"redis:\n  mode: single\n  addresses: [\"a:1\", \"b:1\"]\n", nil, allRoles, []string{"c.yaml:3: redis.addresses: must name one"}},
		"Sentinel without a name":       {"redis:\n  mode: sentinel\n  addresses: [\"a:1\"]\n", nil, allRoles, []string{"redis.master_name: is for the mode sentinel"}},
		"a database of a cluster":       {"redis:\n  mode: cluster\n  addresses: [\"a:1\"]\n  database: 3\n", nil, allRoles, []string{"c.yaml:4: redis.database: must be 0"}},
		"a slow Redis":                  {"redis:\n  mode: single\n  addresses: [\"a:1\"]\n  timeout: 1s\n", nil, allRoles, []string{"c.yaml:4: redis.timeout: 1s is not between 20ms and 50ms"}},
		"a nested variable":             {"", []string{"TOLLGATE_REDIS_TLS_CA_FILE=/ca", "TOLLGATE_REDIS_MODE=single", "TOLLGATE_REDIS_ADDRESSES=a:1"}, allRoles, nil},
		"a list of sections":            {"", []string{"TOLLGATE_XDS_GROUPS=edge"}, allRoles, []string{"TOLLGATE_XDS_GROUPS: a list of sections can be set in the file alone"}},
		"an unknown key of a listener":  {"xds:\n  groups:\n    - name: a\n      listeners:\n        - port: 1\n", nil, allRoles, []string{`c.yaml:5: unknown key "port"; allowed: address, certificates,`}},
		"a plain listener":              {"xds:\n  groups:\n    - name: a\n      hosts: [a]\n      listeners:\n        - address: 0.0.0.0:8080\n", nil, allRoles, []string{"c.yaml:6: xds.groups[0].listeners[0].address:", "set certificates for HTTPS"}},
		"a listener without its cert":   {"xds:\n  groups:\n    - name: a\n      hosts: [a]\n      listeners:\n        - {address: \"0.0.0.0:8443\", certificates: [x]}\n", nil, allRoles, []string{`c.yaml:6: xds.groups[0].listeners[0].certificates: "x" is not in xds.certificates`}},
		"a redirect to nowhere":         {"xds:\n  groups:\n    - name: a\n      hosts: [a]\n      listeners:\n        - {address: \"0.0.0.0:80\", redirect_to: 443}\n", nil, allRoles, []string{"redirect_to: 443 is not the port of a listener"}},
		"a clear key manager elsewhere": {"xds:\n  groups:\n    - name: a\n      hosts: [a]\n      listeners: [{address: \"127.0.0.1:80\"}]\n      keymanager: {addresses: [\"http://km:80\"]}\n", nil, allRoles, []string{"clear text, and not on Envoy's machine"}},
		"a group twice":                 {"xds:\n  groups:\n    - {name: a, hosts: [a], listeners: [{address: \"127.0.0.1:80\"}]}\n    - {name: a, hosts: [a], listeners: [{address: \"127.0.0.1:80\"}]}\n", nil, allRoles, []string{`c.yaml:4: xds.groups[1].name: "a" is there twice`}},
		"the short form and groups":     {"gateway:\n  hosts: [b]\nxds:\n  groups:\n    - {name: a, hosts: [a], listeners: [{address: \"127.0.0.1:80\"}]}\n", nil, allRoles, []string{"c.yaml:2: gateway.hosts: is without effect"}},
		"an empty certificate":          {"xds:\n  certificates:\n    x: {}\n", nil, allRoles, []string{"c.yaml:3: xds.certificates.x: names no file"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, at, err := parseConfig("c.yaml", []byte(tc.yaml), tc.env)
			if err == nil {
				err = checkConfig(&cfg, tc.roles, at)
			}
			if tc.want == nil && err != nil {
				t.Error(err)
			}
			for _, part := range tc.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v, want %q in it", err, part)
				}
			}
		})
	}
}

// The key files of a deployment are made once, fit what reads them, and rotate.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir() + "/secrets"
	var out strings.Builder
	if err := newKeyFiles(t.Context(), dir, "https://login.example.com", &out); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\n") != 4 {
		t.Errorf("said %q", out.String())
	}
	if err := newKeyFiles(t.Context(), dir, "https://login.example.com", &out); err == nil {
		t.Error("existing keys were replaced")
	}
	for kind, file := range map[string]string{"tag": fileTagKey, "pepper": filePepperKey, "redis": fileRedisKey} {
		cmd := newKeyFileRotateCommand()
		cmd.SetArgs([]string{kind, dir + "/" + file})
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	state, err := openState(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = state.Close() }()
	keys, err := loadKeys(KeysConfig{TagFile: dir + "/" + fileTagKey, PepperFile: dir + "/" + filePepperKey}, state, nil)
	if err != nil || len(keys.Missing()) > 0 {
		t.Errorf("%v, missing %v", err, keys.Missing())
	}
	creds, err := readSharedCredentials(dir + "/" + fileAdmin)
	if err != nil || creds.Server != "https://login.example.com" || creds.ConsumerKey == "" {
		t.Errorf("%v, %v", creds.ConsumerKey, err)
	}
	cfg := defaultConfig()
	cfg.Redis.KeyFile = dir + "/" + fileRedisKey
	if _, err := (&daemon{cfg: cfg}).redisKeys(); err != nil {
		t.Error(err)
	}
}
