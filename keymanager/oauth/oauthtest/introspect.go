package oauthtest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// introspect: what is said of a live token.
func introspect(t *testing.T, c *checker) {
	value := c.issue(t, c.Shop, "pets:read pets:write")
	for _, auth := range []string{c.Shop.basic(), "Bearer " + c.issue(t, c.Shop, "orders:read"), "Bearer " + value} {
		got := c.ask(t, auth, value)
		for name, want := range map[string]any{
			"active": true, "scope": "pets:read pets:write", "client_id": c.Shop.ID, "sub": c.Shop.ID,
			"token_type": "Bearer", "iss": c.Issuer, "user_type": "APPLICATION", "key_type": "PRODUCTION",
		} {
			if got.Status != http.StatusOK || got.member(name) != want {
				t.Errorf("%d, %s is %v, want %v", got.Status, name, got.member(name), want)
			}
		}
		if got.text("jti") == "" || got.text("jti") == value {
			t.Errorf("jti is %q", got.text("jti"))
		}
	}
}

// whoSees: a token is seen by its client, and by those with
// tollgate:introspect in its organization.
func whoSees(t *testing.T, c *checker) {
	value := c.issue(t, c.Shop, "pets:read")
	for _, tt := range []struct {
		name, auth string
		sees       bool
	}{
		{"the client", c.Shop.basic(), true},
		{"IN5 another client", c.BasicOnly.basic(), false},
		{"IN5 another client's token", "Bearer " + c.issue(t, c.BasicOnly, ""), false},
		{"another key of the application", c.Sandbox.basic(), false},
		{"administrator without the scope", c.Other.basic(), false},
		{"administrator's token", "Bearer " + c.issue(t, c.Other, "tollgate:admin"), false},
		{"with the scope", c.Watcher.basic(), true},
		{"token with the scope", "Bearer " + c.issue(t, c.Watcher, "tollgate:introspect"), true},
		{"token without, of a client with the scope", "Bearer " + c.issue(t, c.Watcher, ""), false},
		{"with the scope, in another organization", c.Stranger.basic(), false},
		{"token with the scope, in another organization", "Bearer " + c.issue(t, c.Stranger, "tollgate:introspect"), false},
	} {
		got := c.ask(t, tt.auth, value)
		if sees := got.member("active") == true; got.Status != http.StatusOK || sees != tt.sees || !sees && got.Body != inactive {
			t.Errorf("%s: %d %s", tt.name, got.Status, got.Body)
		}
	}
}

// IN2, IN3: everything that is not a live token looks the same, also to one
// who may see all.
func introspectDead(t *testing.T, c *checker) {
	live := c.issue(t, c.Shop, "")
	values := map[string]string{
		"never issued": c.Unissued, "malformed": "canary", "changed": live[:30] + flip(live[30]) + live[31:],
		"another spelling": live + "=", "IN4 a refresh token": "tgrt" + live[4:], "an API key": c.APIKey,
		"a client secret": c.Shop.Secret, "a JWT": "eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.",
	}
	for name, value := range c.Dead {
		values[name] = value
	}
	var want reply
	for name, value := range values {
		got := c.ask(t, c.Watcher.basic(), value)
		if got.Status != http.StatusOK || got.Body != inactive {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
		dropVarying(got)
		if want.Status == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from another:\n%s", name, diff)
		}
		// As bearer it opens nothing either.
		got = c.ask(t, "Bearer "+value, live)
		if got.Status != http.StatusUnauthorized || got.text("error") != "invalid_token" ||
			!strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s as bearer: %d %s", name, got.Status, got.Body)
		}
	}
}

// flip returns another letter.
func flip(letter byte) string {
	if letter == 'A' {
		return "B"
	}
	return "A"
}

func introspectRefused(t *testing.T, c *checker) {
	value := c.issue(t, c.Shop, "")
	body := "token=" + value
	auth := []string{c.Shop.basic()}
	rows := []row{
		{name: "IN1 no credentials", req: request{body: body}, status: 401, error: "invalid_client"},
		{name: "IN1 wrong secret", req: request{auth: []string{Client{c.Shop.ID, "canary"}.basic()}, body: body}, status: 401, error: "invalid_client"},
		{name: "IN1 unknown client", req: request{auth: []string{Client{"nobody", "canary"}.basic()}, body: body}, status: 401, error: "invalid_client"},
		{name: "IN1 rejected client", req: request{auth: []string{c.Rejected.basic()}, body: body}, status: 401, error: "invalid_client"},
		{name: "IN1 forged bearer", req: request{auth: []string{"Bearer " + value[:40] + flip(value[40]) + value[41:]}, body: body}, status: 401, error: "invalid_token"},
		{name: "IN1 empty bearer", req: request{auth: []string{"Bearer"}, body: body}, status: 401, error: "invalid_client"},
		{name: "bearer and secret", req: request{auth: []string{"Bearer " + value}, body: body + "&client_secret=canary"}, status: 400, error: "invalid_request"},
		{name: "IN10 GET", req: request{method: "GET", auth: auth, query: body}, status: 405, error: "invalid_request", gateway: 404},
		{name: "IN10 token in the URL", req: request{auth: auth, query: body}, status: 400, error: "invalid_request"},
		{name: "no token", req: request{auth: auth}, status: 400, error: "invalid_request"},
		{name: "token twice", req: request{auth: auth, body: body + "&" + body}, status: 400, error: "invalid_request"},
	}
	twice := row{name: "bearer twice", req: request{auth: []string{"Bearer " + value, "Bearer " + value}, body: body}, status: 400, error: "invalid_request"}
	if c.Gateway { // joined by a comma, it is one bearer that is not ours
		twice.status, twice.error = 401, "invalid_token"
	}
	rows = append(rows, twice)
	for i := range rows {
		rows[i].req.path = pathIntrospect
	}
	c.refused(t, rows)
}
