package oauthtest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func (c *checker) revoke(t *testing.T, client Client, value, more string) reply {
	t.Helper()
	return c.do(t, request{path: pathRevoke, auth: []string{client.basic()}, body: "token=" + url.QueryEscape(value) + more})
}

// revoke: a client's own token ends, whatever the hint, and no other one.
func revoke(t *testing.T, c *checker) {
	for name, more := range map[string]string{
		"RV1":            "",
		"RV4 wrong hint": "&token_type_hint=refresh_token",
		"RV5 other hint": "&token_type_hint=canary",
		"right hint":     "&token_type_hint=access_token",
	} {
		value, bystander := c.issue(t, c.Shop, ""), c.issue(t, c.Shop, "")
		if !c.live(t, c.Shop, value) {
			t.Errorf("%s: not live", name)
		}
		if got := c.revoke(t, c.Shop, value, more); got.Status != http.StatusOK || got.Body != "" {
			t.Errorf("%s: %d %q, want 200 without a body", name, got.Status, got.Body)
		}
		if c.live(t, c.Shop, value) || !c.live(t, c.Shop, bystander) {
			t.Errorf("%s: after it live %v, another of the client %v", name, c.live(t, c.Shop, value), c.live(t, c.Shop, bystander))
		}
		// RV9: the answer was lost, the client asks again.
		before := c.Changes(t)
		if got := c.revoke(t, c.Shop, value, more); got.Status != http.StatusOK || c.Changes(t) != before {
			t.Errorf("%s, again: %d, now %s, before %s", name, got.Status, c.Changes(t), before)
		}
	}
	// Also with credentials in the body.
	value := c.issue(t, c.Shop, "")
	if got := c.do(t, request{path: pathRevoke, body: "token=" + value + c.Shop.form()}); got.Status != http.StatusOK || c.live(t, c.Shop, value) {
		t.Errorf("with credentials in the body: %d", got.Status)
	}
}

// revokeNothing: what is not there, or not any more, is as good as revoked.
func revokeNothing(t *testing.T, c *checker) {
	value := c.issue(t, c.Shop, "")
	before := c.Changes(t)
	list := map[string]string{
		"RV3 never issued": c.Unissued,
		"RV3 malformed":    "canary",
		"RV3 a JWT":        "eyJhbGciOiJub25lIn0.e30.",
		"a secret":         c.Shop.Secret,
		"changed":          value[:len(value)-1] + "!",
		"cut":              value[:len(value)-1],
		"not UTF-8":        "\xff\x00",
		"long":             strings.Repeat("x", 10_000),
	}
	for name, v := range list {
		if got := c.revoke(t, c.Shop, v, ""); got.Status != http.StatusOK || got.Body != "" {
			t.Errorf("%s: %d %q", name, got.Status, got.Body)
		}
	}
	if after := c.Changes(t); after != before || !c.live(t, c.Shop, value) {
		t.Errorf("something was revoked: %s, before %s", after, before)
	}
}

func revokeRefused(t *testing.T, c *checker) {
	value := c.issue(t, c.Shop, "")
	body := "token=" + value
	auth := []string{c.Shop.basic()}
	rows := []row{
		{name: "RV6 no credentials", req: request{body: body}, status: 401, error: "invalid_client"},
		{name: "RV6 wrong secret", req: request{auth: []string{Client{c.Shop.ID, "canary"}.basic()}, body: body}, status: 401, error: "invalid_client"},
		{name: "RV6 unknown client", req: request{auth: []string{Client{"nobody", "canary"}.basic()}, body: body}, status: 401, error: "invalid_client"},
		{name: "RV6 client_id alone", req: request{body: body + "&client_id=" + c.Shop.ID}, status: 401, error: "invalid_client"},
		{name: "RV6 the token itself as bearer", req: request{auth: []string{"Bearer " + value}, body: body}, status: 401, error: "invalid_client"},
		{name: "RV7 another client's token", req: request{auth: []string{c.Other.basic()}, body: body}, status: 400, error: "unauthorized_client"},
		{name: "RV7 of the same application", req: request{auth: []string{c.Sandbox.basic()}, body: body}, status: 400, error: "unauthorized_client"},
		{name: "RV7 with tollgate:introspect", req: request{auth: []string{c.Watcher.basic()}, body: body}, status: 400, error: "unauthorized_client"},
		{name: "RV5 an API key", req: request{auth: auth, body: "token=" + c.APIKey}, status: 400, error: "unsupported_token_type"},
		{name: "RV10 GET", req: request{method: "GET", auth: auth, query: body}, status: 405, error: "invalid_request", gateway: 404},
		{name: "RV10 token in the URL", req: request{auth: auth, query: body}, status: 400, error: "invalid_request"},
		{name: "no token", req: request{auth: auth, body: "token_type_hint=access_token"}, status: 400, error: "invalid_request"},
		{name: "empty token", req: request{auth: auth, body: "token="}, status: 400, error: "invalid_request"},
		{name: "token twice", req: request{auth: auth, body: body + "&" + body}, status: 400, error: "invalid_request"},
		{name: "JSON", req: request{auth: auth, contentType: text("application/json"), body: `{"token":"` + value + `"}`}, status: 400, error: "invalid_request"},
	}
	for i := range rows {
		rows[i].req.path = pathRevoke
	}
	c.refused(t, rows)
	if !c.live(t, c.Shop, value) {
		t.Error("the token was revoked")
	}
}
