//go:build !short

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// certificate.sh makes what the processes ask of each other, and renews it.
func TestCertificateScript(t *testing.T) {
	script, err := filepath.Abs("../../deploy/production/certificate.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{script, "pki"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "TRUST_DOMAIN=gateways.example.com")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	roots := x509.NewCertPool()
	for _, tc := range []struct {
		name, names string
		peer        string // "" = none
	}{
		{"keymanager/keymanager-1", "DNS:keymanager-1.internal", "keymanager/keymanager-1"},
		{"xds/xds-1", "DNS:xds-1.internal,IP:10.0.0.1", "xds/xds-1"},
		{"authz/edge/edge-1", "", "authz/edge/edge-1"},
		{"gateway/edge/edge-1", "", "gateway/edge/edge-1"},
		{"https/login", "DNS:login.example.com", ""},
		{"keymanager/keymanager-1", "DNS:keymanager-1.internal", "keymanager/keymanager-1"}, // renewed
	} {
		if out, err := run(tc.name, tc.names); err != nil {
			t.Fatalf("%s: %v\n%s", tc.name, err, out)
		}
		file := func(name string) string { return filepath.Join(dir, "pki", tc.name, name) }
		cert, err := tls.LoadX509KeyPair(file("tls.crt"), file("tls.key"))
		if err != nil {
			t.Fatal(err)
		}
		ca, err := os.ReadFile(file("ca.crt"))
		if err != nil || !roots.AppendCertsFromPEM(ca) {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		peer, err := keymanager.ParsePeer("gateways.example.com", cert.Leaf)
		if tc.peer == "" && err == nil || tc.peer != "" && (err != nil || peer.String() != tc.peer) {
			t.Errorf("%s: %v %v, want %q", tc.name, peer, err, tc.peer)
		}
		if err := checkKeyFile(file("tls.key")); err != nil {
			t.Error(err)
		}
	}
	if out, err := run("https/nobody"); err == nil || !strings.Contains(out, "needs names") {
		t.Errorf("a certificate for no name: %v %s", err, out)
	}
}

// The balancer for key managers is a configuration that Envoy takes.
func TestBalancerConfiguration(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, envoytest.Binary(t), "--mode", "validate", "-c", "../../deploy/envoy/balancer.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The units start what there is, with files of the names in the documents.
func TestUnits(t *testing.T) {
	root := newRoot()
	units, err := filepath.Glob("../../deploy/production/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		commands := regexp.MustCompile(`(?m)^Exec\w+=/usr/local/bin/tollgate (.*)$`).FindAllStringSubmatch(strings.ReplaceAll(string(text), "%i", "keymanager"), -1)
		if len(commands) == 0 {
			t.Errorf("%s runs no tollgate", unit)
		}
		for _, c := range commands {
			cmd, args, err := root.Find(strings.Fields(c[1]))
			if err == nil {
				err = cmd.ParseFlags(args)
			}
			if err != nil {
				t.Errorf("%s: tollgate %s: %v", unit, c[1], err)
			}
		}
	}
}

// Who follows operations.md has every file that the configurations of it name.
func TestProductionFilesAreMade(t *testing.T) {
	doc := readDoc(t, "operations.md")
	brought := regexp.MustCompile(`(?:secrets/|[\w$-]+:/etc/tollgate/tls/|>/etc/tollgate/secrets/)([\w-]+\.?\w*)`)
	made := map[string]bool{"tls.crt": true, "tls.key": true, "ca.crt": true} // with "scp pki/ROLE/NAME/*"
	for _, m := range brought.FindAllStringSubmatch(doc, -1) {
		made[m[1]] = true
	}
	_, rest, _ := strings.Cut(doc, "without the group `partners` and the")
	without, _, _ := strings.Cut(rest, ", which show what else there is")
	named := regexp.MustCompile(`/etc/tollgate/(?:tls|secrets)/([\w.-]+)`)
	for _, role := range []string{"keymanager", "xds", "authz"} {
		data, err := os.ReadFile(filepath.Join("../../deploy/production", role+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		files := named.FindAllStringSubmatch(string(data), -1)
		if len(files) == 0 {
			t.Errorf("%s.yaml names no file", role)
		}
		for _, m := range files {
			file := m[1]
			leftOut := slices.ContainsFunc([]string{"", "-ca", "-client"}, func(part string) bool {
				name := strings.TrimSuffix(strings.TrimSuffix(file, filepath.Ext(file)), part)
				return strings.Contains(without, "`"+name+"`")
			})
			if !made[file] && !leftOut {
				t.Errorf("%s.yaml names %s: nothing in operations.md brings it there", role, m[0])
			}
		}
	}
}
