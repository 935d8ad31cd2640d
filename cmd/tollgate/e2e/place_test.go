//go:build !short

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// place is a running Tollgate with back ends that tell what reached them.
type place struct {
	*rig.Rig
	process             *rig.Process
	flags               []string // of every start
	admin               *rig.Admin
	production, sandbox *envoytest.Backend
	grpc                *envoytest.GRPC
	// keys are the credentials of what populate has made, by name
	// ("shop/PRODUCTION").
	keys map[string]rig.Client
}

// newPlace starts dev with more flags, and applies a manifest in which
// PRODUCTION, SANDBOX and GRPC stand for the addresses of the back ends.
func newPlace(t *testing.T, manifest string, flags ...string) *place {
	t.Helper()
	pl := &place{Rig: rig.New(t), production: envoytest.HTTP1(t), sandbox: envoytest.HTTP1(t), grpc: envoytest.NewGRPC(t), flags: flags}
	pl.start()
	pl.admin = pl.Admin(t)
	pl.keys = map[string]rig.Client{}
	pl.apply(t, manifest)
	return pl
}

// start starts dev, again after it has ended.
func (pl *place) start() {
	pl.process = pl.Dev(pl.flags...)
	pl.process.WaitOutput(readyLine)
}

// apply applies a manifest and waits until the gateway uses it.
func (pl *place) apply(t *testing.T, manifest string) {
	t.Helper()
	manifest = strings.NewReplacer("PRODUCTION_URL", pl.production.URL("/"), "SANDBOX_URL", pl.sandbox.URL("/"),
		"GRPC_URL", "http://"+pl.grpc.Addr()).Replace(manifest)
	for name, client := range pl.admin.Apply(t, manifest) {
		pl.keys[name] = client
	}
}

// token gets a token of an application's PRODUCTION key, or of the key named
// in full.
func (pl *place) token(t *testing.T, key string, scopes ...string) string {
	t.Helper()
	if !strings.Contains(key, "/") {
		key += "/PRODUCTION"
	}
	client, ok := pl.keys[key]
	if !ok {
		t.Fatalf("no key %s", key)
	}
	return pl.Issue(t, client, scopes...)
}

// madeKey is an API key with the id to revoke it by.
type madeKey struct{ ID, Key string }

// apiKey makes an API key of an application.
func (pl *place) apiKey(t *testing.T, app string, spec map[string]any) (k madeKey) {
	t.Helper()
	body := map[string]any{"name": fmt.Sprintf("key-%d", len(pl.keys)), "keyType": "PRODUCTION"}
	for name, v := range spec {
		body[name] = v
	}
	pl.keys[body["name"].(string)] = rig.Client{} // a name once
	pl.admin.Must(t, "POST", "/organizations/default/applications/"+app+"/api-keys", body, &k)
	return k
}

// bearer is the header line of a token.
func bearer(token string) string { return "Authorization: Bearer " + token }

// get calls a path of the gateway with header lines as they are.
func (pl *place) get(t *testing.T, target string, lines ...string) envoytest.Reply {
	t.Helper()
	return envoytest.Get(t, pl.Gateway, target, "localhost", lines...)
}

// forget and reached tell how many calls came to the back ends.
func (pl *place) forget() {
	pl.production.Forget()
	pl.sandbox.Forget()
	pl.grpc.Forget()
}

func (pl *place) reached() int {
	return len(pl.production.Seen()) + len(pl.sandbox.Seen()) + len(pl.grpc.Seen())
}

// allowed checks that a call reached the production back end alone, and returns
// what that saw.
func (pl *place) allowed(t *testing.T, what string, call func() envoytest.Reply) envoytest.Seen {
	t.Helper()
	pl.forget()
	r := call()
	seen := pl.production.Seen()
	if r.Status != 200 || len(seen) != 1 || pl.reached() != 1 {
		t.Errorf("%s: %d %s%s, back ends reached %d times", what, r.Status, r.Body, r.Reset, pl.reached())
		return envoytest.Seen{}
	}
	return seen[0]
}

// refusal is how a call is refused.
type refusal struct {
	status    int
	code      string
	challenge string // WWW-Authenticate, whole; "" = none
}

// Challenges of an API that takes tokens and API keys in headers.
const (
	challengeNone     = `Bearer realm="tollgate", ApiKey realm="tollgate"`
	challengeInvalid  = `Bearer realm="tollgate", error="invalid_token", error_description="Invalid Credentials", ApiKey realm="tollgate"`
	challengeKey      = `Bearer realm="tollgate", ApiKey realm="tollgate", error="invalid_token", error_description="Invalid Credentials"`
	challengeExpired  = `Bearer realm="tollgate", error="invalid_token", error_description="Access Token Expired", ApiKey realm="tollgate"`
	challengeExpired2 = `Bearer realm="tollgate", ApiKey realm="tollgate", error="invalid_token", error_description="Access Token Expired"`
	challengeType     = `Bearer realm="tollgate", error="invalid_token", error_description="Incorrect Access Token Type is provided", ApiKey realm="tollgate"`
	challengeBlocked  = `Bearer realm="tollgate", error="invalid_token", error_description="The requested API is temporarily blocked", ApiKey realm="tollgate"`
	challengeInactive = `Bearer realm="tollgate", error="invalid_token", error_description="The subscription to the API is inactive", ApiKey realm="tollgate"`
)

var (
	missing   = refusal{401, "900902", challengeNone}
	invalid   = refusal{401, "900901", challengeInvalid}
	notFound  = refusal{404, "404", ""}
	noMatch   = refusal{403, "900906", ""}
	forbidden = refusal{403, "900908", ""}
	blocked   = refusal{401, "900907", challengeBlocked}
)

// insufficient is the refusal for want of one of these scopes.
func insufficient(scopes string) refusal {
	return refusal{403, "900910", `Bearer realm="tollgate", error="insufficient_scope", ` +
		`error_description="The access token does not allow you to access the requested resource", scope="` + scopes + `", ApiKey realm="tollgate"`}
}

// check holds an answer in JSON against the refusal.
func (w refusal) check(t *testing.T, what string, r envoytest.Reply) {
	t.Helper()
	var body map[string]any
	err := json.Unmarshal([]byte(r.Body), &body)
	if r.Status != w.status || body["code"] != w.code {
		t.Errorf("%s: %d %s%s, want %d %s", what, r.Status, r.Body, r.Reset, w.status, w.code)
		return
	}
	if err != nil || len(body) != 4 || body["message"] == "" || body["description"] == "" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %s %s", what, r.Header.Get("Content-Type"), r.Body)
	}
	w.checkCommon(t, what, r, body)
}

// checkProblem holds an answer of RFC 9457 against the refusal.
func (w refusal) checkProblem(t *testing.T, what string, r envoytest.Reply) {
	t.Helper()
	var body map[string]any
	err := json.Unmarshal([]byte(r.Body), &body)
	if r.Status != w.status || err != nil || r.Header.Get("Content-Type") != "application/problem+json" || body["code"] != w.code ||
		body["type"] != "about:blank" || body["title"] != http.StatusText(w.status) || body["status"] != float64(w.status) ||
		body["detail"] == "" || body["detail"] != body["description"] {
		t.Errorf("%s: %d %s %s", what, r.Status, r.Header.Get("Content-Type"), r.Body)
	}
	w.checkCommon(t, what, r, body)
}

func (w refusal) checkCommon(t *testing.T, what string, r envoytest.Reply, body map[string]any) {
	t.Helper()
	if w.code == "400" && body["request_id"] == nil {
		return // refused before it had an id
	}
	if id := r.Header.Get("X-Request-Id"); len(id) < 20 || body["request_id"] != id {
		t.Errorf("%s: request_id %v, x-request-id %q", what, body["request_id"], id)
	}
	if got := strings.Join(r.Header.Values("WWW-Authenticate"), " + "); got != w.challenge {
		t.Errorf("%s: challenge %s, want %s", what, got, w.challenge)
	}
	if r.Header.Get("Grpc-Status") != "" || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s: headers %v", what, r.Header)
	}
	for _, c := range r.Body {
		if c < ' ' && c != '\n' || c > '~' {
			t.Errorf("%s: the character %q in %q", what, c, r.Body)
		}
	}
}

// checkGRPC holds an answer to a gRPC caller against the refusal.
func (w refusal) checkGRPC(t *testing.T, what string, r envoytest.Reply, status int) {
	t.Helper()
	code := map[int]string{400: "13", 401: "16", 403: "7", 404: "12", 503: "14"}[w.status]
	if r.Status != status || r.Header.Get("Grpc-Status") != code || r.Header.Get("Grpc-Message") == "" || r.Body != "" ||
		!strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		t.Errorf("%s: %d grpc-status %s %q, want %s; %s", what, r.Status, r.Header.Get("Grpc-Status"), r.Header.Get("Grpc-Message"), code, r.Body)
	}
}
