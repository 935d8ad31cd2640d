//go:build !short

// Package e2e runs the tollgate binary with the real Envoy, as an operator and
// a developer do.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

func TestMain(m *testing.M) {
	code := m.Run()
	rig.Cleanup()
	os.Exit(code)
}

// readyLine is the last line that dev prints.
const readyLine = "Ctrl-C stops everything."

// dev starts a set-up of its own and waits until it is ready.
func dev(t *testing.T) (*rig.Rig, *rig.Process) {
	t.Helper()
	r := rig.New(t)
	p := r.Dev("--log-level", "debug")
	p.WaitOutput(readyLine)
	return r, p
}

// token gets an access token with the credentials of a file in the state
// folder.
func token(t *testing.T, r *rig.Rig, file string, scopes ...string) string {
	t.Helper()
	args := []string{"token", "--credentials", filepath.Join(r.State, file)}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	return strings.TrimSpace(r.Tollgate(args...))
}

// credentials reads a credentials file of the state folder.
func credentials(t *testing.T, r *rig.Rig, file string) (key, secret string) {
	t.Helper()
	c, err := rig.ReadClient(filepath.Join(r.State, file))
	if err != nil {
		t.Fatal(err)
	}
	return c.ID, c.Secret
}

// apply applies a manifest.
func apply(t *testing.T, r *rig.Rig, manifest string) {
	t.Helper()
	r.Tollgate("apply", "-f", r.File("manifest.yaml", manifest))
}

// want holds an answer against a status and an error code ("" = none).
func want(t *testing.T, what string, a rig.Answer, status int, code string) {
	t.Helper()
	if a.Status != status || a.Code() != code {
		t.Errorf("%s: %d %s, want %d %s\n%s", what, a.Status, a.Code(), status, code, a.Body)
	}
}

// answers waits until a path answers with a status.
func answers(t *testing.T, r *rig.Rig, path, token string, status int) {
	t.Helper()
	rig.Eventually(t, fmt.Sprintf("GET %s is %d", path, status), func() error {
		var header []string
		if token != "" {
			header = []string{"Authorization", "Bearer " + token}
		}
		a, err := rig.Do("GET", "http://"+r.Gateway+path, header...)
		if err == nil && a.Status != status {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return err
	})
}

// sampleAPI is a manifest of one API in front of the sample back end.
func sampleAPI(r *rig.Rig, name string) string {
	return fmt.Sprintf(`kind: API
organization: default
name: %s
spec:
  version: 1.0.0
  context: /%s
  state: PUBLISHED
  production: [http://%s/]
  resources: [{method: GET, path: /open, authType: None}, {method: GET, path: /closed}]
`, name, name, r.Production)
}
