//go:build !short

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

func newAPI(t *testing.T, r *rig.Rig) {
	r.Tollgate("apply", "--wait", "-f", r.File("api.yaml", sampleAPI(r, "shop")))
	a := r.Get("/shop/1.0.0/open", "")
	if a.Echo(t).Path != "/open" {
		t.Errorf("the new API: %s", a.Body)
	}
	want(t, "closed resource", r.Get("/shop/1.0.0/closed", ""), 401, "900902")
	r.Tollgate("delete", "api", "shop/1.0.0")
	answers(t, r, "/shop/1.0.0/open", "", 404)
}

// newApplication is a developer's way from nothing to a call.
func newApplication(t *testing.T, r *rig.Rig) {
	apply(t, r, `
kind: User
organization: default
name: alice
spec: {email: alice@example.com}
---
kind: Application
organization: default
name: shop
spec: {owner: alice}
---
kind: Subscription
organization: default
name: shop-pets
spec: {application: shop, api: pets/1.0.0, tier: Silver}
`)
	file := filepath.Join(filepath.Dir(r.State), "shop.json")
	r.Tollgate("key", "create", "shop", "--output", file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials file: %v, %v", info, err)
	}
	tok := strings.TrimSpace(r.Tollgate("token", "--credentials", file))
	if got := r.Get("/pets/1.0.0/pets", tok).Echo(t).Headers["x-tollgate-subscription-tier"]; got != "Silver" {
		t.Errorf("tier %q", got)
	}
	if _, stderr, err := r.Try("key", "create", "shop", "--output", file); err == nil || !strings.Contains(stderr, "exists") {
		t.Errorf("a credentials file was overwritten: %v %s", err, stderr)
	}
	r.Tollgate("key", "delete", "shop")
	want(t, "key deleted", r.Get("/pets/1.0.0/pets", tok), 401, "900901")
}

func apiKey(t *testing.T, r *rig.Rig) {
	file := filepath.Join(filepath.Dir(r.State), "demo.key")
	out := r.Tollgate("api-key", "create", "demo", "till", "--network", "127.0.0.0/8", "--output", file)
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	call := func() rig.Answer {
		t.Helper()
		a, err := rig.Do("GET", "http://"+r.Gateway+"/pets/1.0.0/pets", "apikey", strings.TrimSpace(string(key)))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	want(t, "API key", call(), 200, "")
	id := strings.Fields(out)[2]
	r.Tollgate("api-key", "revoke", "demo", id)
	want(t, "revoked API key", call(), 401, "900901")
}

func explain(t *testing.T, r *rig.Rig, live string) {
	file := r.File("live.token", live+"\n")
	if out := r.Tollgate("explain", "GET", "http://localhost/pets/1.0.0/pets", "--token-file", file); !strings.Contains(out, "allowed") {
		t.Errorf("explain: %s", out)
	}
	out, _, err := r.Try("explain", "DELETE", "/pets/1.0.0/nothing", "--token-file", file)
	if err == nil || !strings.Contains(out, "900906") {
		t.Errorf("explain a refusal: %v %s", err, out)
	}
}

// applyRefuses: each fault is named with file and line, and nothing is applied.
func applyRefuses(t *testing.T, r *rig.Rig) {
	file := r.File("bad.yaml", sampleAPI(r, "good")+`---
kind: API
organization: default
name: bad
spec:
  version: 1.0.0
  context: bad/../context
  endpoints: [http://127.0.0.1:1/]
---
kind: Subscription
organization: default
name: dangling
spec: {application: nobody, api: good/1.0.0}
`)
	_, stderr, err := r.Try("apply", "-f", file)
	if err == nil {
		t.Fatal("applied")
	}
	for _, part := range []string{"bad.yaml:17: /spec/endpoints: ", "bad.yaml:22: /spec/application: ", "nothing was applied"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q is not in\n%s", part, stderr)
		}
	}
	if out := r.Tollgate("get", "apis"); strings.Contains(out, "good") {
		t.Errorf("applied all the same:\n%s", out)
	}
}

func roundTrip(t *testing.T, r *rig.Rig) {
	for _, kind := range []string{"apis", "applications", "subscriptions", "tiers", "users", "organizations"} {
		file := r.File(kind+".yaml", r.Tollgate("get", kind, "-o", "yaml"))
		if out := r.Tollgate("apply", "-f", file); !strings.Contains(out, "0 created, 0 updated") {
			t.Errorf("%s: %s", kind, out)
		}
	}
	dry := r.File("dry.yaml", strings.Replace(r.Tollgate("get", "api", "orders/2.0.0", "-o", "yaml"), "timeout: 10s", "timeout: 11s", 1))
	if out := r.Tollgate("apply", "--dry-run", "-f", dry); !strings.Contains(out, `"10s" → "11s"`) {
		t.Errorf("dry run: %s", out)
	}
	if out := r.Tollgate("get", "api", "orders/2.0.0", "-o", "yaml"); !strings.Contains(out, "timeout: 10s") {
		t.Error("a dry run changed something")
	}
}
