//go:build !short

package e2e

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

// TestDev is what a newcomer does: run it, paste the commands, and change
// things while it runs.
func TestDev(t *testing.T) {
	r, p := dev(t)
	live := token(t, r, "demo.json")

	t.Run("the printed commands", func(t *testing.T) { printedCommands(t, p.Stdout()) })
	t.Run("identity headers", func(t *testing.T) { identityHeaders(t, r, live) })
	t.Run("sandbox key", func(t *testing.T) { sandboxKey(t, r, live) })
	t.Run("scope", func(t *testing.T) { scope(t, r) })
	t.Run("subscription", func(t *testing.T) { subscription(t, r, live) })
	t.Run("revoked token", func(t *testing.T) { revokedToken(t, r) })
	t.Run("new API and its removal", func(t *testing.T) { newAPI(t, r) })
	t.Run("new application from nothing", func(t *testing.T) { newApplication(t, r) })
	t.Run("API key", func(t *testing.T) { apiKey(t, r) })
	t.Run("explain", func(t *testing.T) { explain(t, r, live) })
	t.Run("apply refuses", func(t *testing.T) { applyRefuses(t, r) })
	t.Run("get gives what apply takes", func(t *testing.T) { roundTrip(t, r) })
	t.Run("gateways", func(t *testing.T) { gateways(t, r) })
	t.Run("health", func(t *testing.T) { health(t, r) })
	t.Run("no secret in any log", func(t *testing.T) { noSecrets(t, r, p, live) })
}

// printedCommands pastes the three commands into a shell.
func printedCommands(t *testing.T, page string) {
	commands := regexp.MustCompile(`(?m)^(?:TOKEN=|curl ).*$`).FindAllString(page, -1)
	if len(commands) != 3 {
		t.Fatalf("%d commands in\n%s", len(commands), page)
	}
	got := rig.Sh(t, commands[0])
	if !regexp.MustCompile(`^tgat_[A-Za-z0-9_-]+$`).MatchString(got) {
		t.Errorf("the first command shows %q", got)
	}
	got = rig.Sh(t, commands[0]+"\n"+commands[1])
	if !strings.Contains(got, "HTTP/1.1 200 OK") || !strings.Contains(got, `"x-tollgate-application": "demo"`) {
		t.Errorf("the second command shows %s", got)
	}
	got = rig.Sh(t, commands[2])
	if !strings.Contains(got, "HTTP/1.1 401 Unauthorized") || !strings.Contains(got, `"code":"900902"`) {
		t.Errorf("the third command shows %s", got)
	}
}

// identityHeaders holds what the back end gets: who calls, not with what.
func identityHeaders(t *testing.T, r *rig.Rig, live string) {
	key, _ := credentials(t, r, "demo.json")
	a, err := rig.Do("GET", "http://"+r.Gateway+"/pets/1.0.0/pets/7?color=red", "Authorization", "Bearer "+live,
		"x-tollgate-user", "PRIMARY/admin", "x-tollgate-env", "sandbox", "apikey", "mine")
	if err != nil {
		t.Fatal(err)
	}
	if a.Status == http.StatusUnauthorized { // two credentials
		a = r.Get("/pets/1.0.0/pets/7?color=red", live)
	}
	echo := a.Echo(t)
	if echo.Method != http.MethodGet || echo.Path != "/pets/7?color=red" {
		t.Errorf("the back end saw %s %s", echo.Method, echo.Path)
	}
	for name, value := range map[string]string{
		"x-tollgate-application": "demo", "x-tollgate-consumer-key": key, "x-tollgate-key-type": "PRODUCTION",
		"x-tollgate-subscriber": "PRIMARY/demo", "x-tollgate-user": "PRIMARY/demo",
		"x-tollgate-api": "pets", "x-tollgate-api-version": "1.0.0", "x-tollgate-subscription-tier": "Gold",
	} {
		if echo.Headers[name] != value {
			t.Errorf("%s: %q, want %q", name, echo.Headers[name], value)
		}
	}
	for _, name := range []string{"authorization", "apikey", "x-tollgate-env", "x-tollgate-context"} {
		if v, ok := echo.Headers[name]; ok {
			t.Errorf("the back end got %s: %s", name, v)
		}
	}
}

// sandboxKey calls the same URL with keys of both types.
func sandboxKey(t *testing.T, r *rig.Rig, production string) {
	sandbox := token(t, r, "demo-sandbox.json")
	for range 3 {
		for env, tok := range map[string]string{"production": production, "sandbox": sandbox} {
			a := r.Get("/pets/1.0.0/pets", tok)
			if got := a.Header.Get("x-sample-env"); a.Status != 200 || got != env {
				t.Errorf("%s key: %d from %q", env, a.Status, got)
			}
		}
	}
}

func scope(t *testing.T, r *rig.Rig) {
	without, with := token(t, r, "demo.json", "orders:read"), token(t, r, "demo.json", "pets:write", "orders:read")
	for _, tc := range []struct {
		token  string
		status int
		code   string
	}{{without, 403, "900910"}, {with, 200, ""}} {
		a, err := rig.Do("POST", "http://"+r.Gateway+"/pets/1.0.0/pets", "Authorization", "Bearer "+tc.token)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "POST /pets", a, tc.status, tc.code)
	}
	want(t, "no such resource", r.Get("/pets/1.0.0/nothing", with), 403, "900906")
	want(t, "no such API", r.Get("/nothing/1.0.0", with), 404, "404")
}

// subscription blocks and unblocks: each takes effect on the next call.
func subscription(t *testing.T, r *rig.Rig, live string) {
	set := func(state string) {
		t.Helper()
		apply(t, r, "kind: Subscription\norganization: default\nname: demo-pets\n"+
			"spec: {application: demo, api: pets/1.0.0, tier: Gold, state: "+state+"}\n")
	}
	sandbox := token(t, r, "demo-sandbox.json")
	for range 3 {
		set("BLOCKED")
		want(t, "blocked", r.Get("/pets/1.0.0/pets", live), 401, "900907")
		set("PROD_ONLY_BLOCKED")
		want(t, "production blocked", r.Get("/pets/1.0.0/pets", live), 401, "900907")
		want(t, "production blocked, sandbox key", r.Get("/pets/1.0.0/pets", sandbox), 200, "")
		set("UNBLOCKED")
		want(t, "unblocked", r.Get("/pets/1.0.0/pets", live), 200, "")
	}
	r.Tollgate("delete", "subscription", "demo-pets")
	want(t, "not subscribed", r.Get("/pets/1.0.0/pets", live), 403, "900908")
	set("UNBLOCKED")
	want(t, "subscribed again", r.Get("/pets/1.0.0/pets", live), 200, "")
}

// revokedToken revokes through Envoy: the next call is refused.
func revokedToken(t *testing.T, r *rig.Rig) {
	key, secret := credentials(t, r, "demo.json")
	for range 5 {
		tok := token(t, r, "demo.json")
		want(t, "live", r.Get("/pets/1.0.0/pets", tok), 200, "")
		form := url.Values{"token": {tok}, "client_id": {key}, "client_secret": {secret}}
		res, err := http.PostForm("http://"+r.Gateway+"/oauth2/revoke", form)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("revoke: %d", res.StatusCode)
		}
		want(t, "revoked", r.Get("/pets/1.0.0/pets", tok), 401, "900901")
	}
	metrics, err := rig.Do("GET", "http://"+r.Ops+"/metrics")
	if err != nil || !strings.Contains(metrics.Body, "revocation_lag") {
		t.Errorf("no metric of the revocation lag: %v", err)
	}
}

func gateways(t *testing.T, r *rig.Rig) {
	out := r.Tollgate("get", "gateways")
	for _, line := range []string{`authz .* LIVE`, `xds .* LIVE`, `envoy 1\.\d+\.\d+ .* CONNECTED`} {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("no line like %s in\n%s", line, out)
		}
	}
}

func health(t *testing.T, r *rig.Rig) {
	for path, body := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		a, err := rig.Do("GET", "http://"+r.Ops+path)
		if err != nil || a.Status != 200 || a.Body != body {
			t.Errorf("%s: %v %d %q", path, err, a.Status, a.Body)
		}
	}
}

// noSecrets looks for every secret of this run in every log and the metrics.
func noSecrets(t *testing.T, r *rig.Rig, p *rig.Process, live string) {
	secrets := []string{live}
	for _, file := range []string{"admin.json", "demo.json", "demo-sandbox.json"} {
		_, secret := credentials(t, r, file)
		secrets = append(secrets, secret, token(t, r, file))
	}
	for _, key := range []string{"tag.key", "pepper.key"} {
		data, err := os.ReadFile(filepath.Join(r.State, key))
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, regexp.MustCompile(`[A-Za-z0-9_/+=-]{32,}`).FindAllString(string(data), -1)...)
	}
	for _, s := range secrets[:len(secrets)-2] { // as a caller may send them, also in the wrong place
		_, _ = rig.Do("GET", "http://"+r.Gateway+"/pets/1.0.0/pets?apikey="+url.QueryEscape(s), "apikey", s, "Authorization", "Basic "+s)
		_, _ = rig.Do("GET", "http://"+r.KeyManager+"/api/v1/gateways", "Authorization", "Bearer "+s)
	}
	metrics, err := rig.Do("GET", "http://"+r.Ops+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	p.Stop() // Envoy writes its access log when it has a page full
	logs := r.AllLogs()
	if !strings.Contains(logs, "refused") || !strings.Contains(logs, `"path":"/pets/1.0.0/pets"`) {
		t.Errorf("these are not the logs:\n%s", logs)
	}
	for i, s := range secrets {
		if len(s) < 20 {
			t.Fatalf("secret %d is %d bytes long", i, len(s))
		}
		if strings.Contains(logs, s) || strings.Contains(metrics.Body, s) {
			t.Errorf("secret %d is in a log or a metric", i)
		}
	}
}
