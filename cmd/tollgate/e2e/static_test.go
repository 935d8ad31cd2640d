//go:build !short

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// An Envoy with the static configuration answers as the one that xds drives
// does, to the same authz: also when a token is revoked or a subscription ends.
func TestStaticConfiguration(t *testing.T) {
	r, p := dev(t)
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listens := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	tok := token(t, r, "demo.json")
	sandbox := token(t, r, "demo-sandbox.json")
	dir := filepath.Join(envoytest.Dir(t), "envoy")
	r.Tollgate("envoy", "static", "--memory", "1GiB", "--listen", listens, "--write-dir", dir)
	r.StartEnvoy(filepath.Join(dir, "bootstrap.yaml"))

	both := []string{"http://" + r.Gateway, "http://" + listens}
	rig.Eventually(t, "the static Envoy", func() error {
		_, err := rig.Do("GET", both[1]+"/")
		return err
	})
	same := func(status int, method, path string, header ...string) {
		t.Helper()
		var answers []rig.Answer
		for _, base := range both {
			a, err := rig.Do(method, base+path, header...)
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, a)
		}
		one, other := answers[0], answers[1]
		if one.Status != status || other.Status != status || one.Code() != other.Code() {
			t.Errorf("%s %s: xds %d %s, static %d %s, want %d", method, path, one.Status, one.Body, other.Status, other.Body, status)
		}
		for name := range one.Header {
			if name == "X-Request-Id" || name == "Date" {
				continue
			}
			if one.Header.Get(name) != other.Header.Get(name) {
				t.Errorf("%s %s: %s is %q with xds, %q without", method, path, name, one.Header.Get(name), other.Header.Get(name))
			}
		}
		if status == http.StatusOK && one.Echo(t).Path != other.Echo(t).Path {
			t.Errorf("%s %s: the back end saw %+v and %+v", method, path, one.Echo(t), other.Echo(t))
		}
	}
	bearer := "Bearer "
	same(200, "GET", "/pets/1.0.0/pets", "Authorization", bearer+tok)
	same(200, "GET", "/pets/1.0.0/pets", "Authorization", bearer+sandbox)
	same(200, "GET", "//pets/./1.0.0//pets", "Authorization", bearer+tok)
	same(401, "GET", "/pets/1.0.0/pets")
	same(401, "GET", "/pets/1.0.0/pets", "Authorization", bearer+"x"+tok[1:])
	same(400, "GET", "/pets/1.0.0%2Fpets", "Authorization", bearer+tok)
	same(400, "GET", "/pets/1.0.0/pets", "Authorization", bearer+tok, "x_tollgate_user", "root")
	same(404, "GET", "/none/1.0.0/pets", "Authorization", bearer+tok)
	same(403, "GET", "/pets/1.0.0/nothing/here", "Authorization", bearer+tok)
	same(404, "GET", "/oauth2/other")
	same(400, "POST", "/oauth2/token")

	// What the key manager decides reaches both at once.
	key, secret := credentials(t, r, "demo.json")
	rig.Client{ID: key, Secret: secret}.Post(t, both[1]+"/oauth2/revoke", url.Values{"token": {tok}})
	rig.Eventually(t, "the revocation", func() error {
		a, err := rig.Do("GET", both[1]+"/pets/1.0.0/pets", "Authorization", bearer+tok)
		if err == nil && a.Status != 401 {
			return fmt.Errorf("status %d", a.Status)
		}
		return err
	})
	same(401, "GET", "/pets/1.0.0/pets", "Authorization", bearer+tok)
	p.Stop()
	for range 3 { // authz is gone, and the static Envoy is not
		a, err := rig.Do("GET", both[1]+"/pets/1.0.0/pets", "Authorization", bearer+sandbox)
		if err != nil || a.Status != 503 || a.Code() != "900900" {
			t.Errorf("without authz: %d %s, %v", a.Status, a.Body, err)
		}
	}
}
