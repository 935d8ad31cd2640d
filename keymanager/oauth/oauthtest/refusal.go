package oauthtest

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// row is a request that is refused.
type row struct {
	name   string
	req    request
	status int
	error  string
	// gateway is the status of a gateway that answers itself, and joined that
	// of the endpoints where a gateway has changed the request. 0: the same.
	gateway, joined int
}

// refused checks rows at an endpoint. None of them leaves anything behind.
func (c *checker) refused(t *testing.T, rows []row) {
	t.Helper()
	before := c.Changes(t)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if c.Gateway && r.gateway != 0 {
				got := c.send(t, r.req)
				if got.Status != r.gateway {
					t.Errorf("%d %s, want %d of the gateway", got.Status, got.Body, r.gateway)
				}
				c.checkGateway(t, got)
				return
			}
			if c.Gateway && r.joined != 0 {
				r.status, r.error = r.joined, "invalid_client"
			}
			got := c.do(t, r.req)
			if got.Status != r.status || got.text("error") != r.error {
				t.Errorf("%d %q, want %d %q", got.Status, got.text("error"), r.status, r.error)
			}
			if r.status == http.StatusMethodNotAllowed && got.Header.Get("Allow") != "POST" {
				t.Errorf("Allow is %q", got.Header.Get("Allow"))
			}
			if challenge := got.Header.Get("WWW-Authenticate"); r.error == "invalid_client" && !strings.HasPrefix(challenge, "Basic ") {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
			if got.member("active") != nil || got.member("access_token") != nil {
				t.Errorf("the refusal says more: %s", got.Body)
			}
		})
	}
	if after := c.Changes(t); after != before {
		t.Errorf("refusals left something behind: %s, before %s", after, before)
	}
}

// tokenRefused: the token endpoint's refusals.
func tokenRefused(t *testing.T, c *checker) {
	good := c.Shop
	auth := []string{good.basic()}
	with := func(parameters string) request { return request{auth: auth, body: grantBody + parameters} }
	as := func(client Client) request { return request{auth: []string{client.basic()}, body: grantBody} }
	post := func(client Client) request { return request{body: grantBody + client.form()} }
	raw := func(user string) request { return request{auth: []string{basic(user)}, body: grantBody} }
	typed := func(contentType, body string) request {
		return request{auth: auth, contentType: &contentType, body: body}
	}
	rows := []row{
		{name: "T1 GET", req: request{method: "GET", auth: auth, query: grantBody}, status: 405, error: "invalid_request", gateway: 404},
		{name: "T1 PUT", req: request{method: "PUT", auth: auth, body: grantBody}, status: 405, error: "invalid_request", gateway: 404},
		{name: "T1 HEAD", req: request{method: "HEAD", auth: auth}, status: 405, gateway: 404},
		{name: "T1 OPTIONS", req: request{method: "OPTIONS", auth: auth}, status: 405, error: "invalid_request", gateway: 404},
		{name: "T2 JSON", req: typed("application/json", `{"grant_type":"client_credentials"}`), status: 400, error: "invalid_request"},
		{name: "T2 multipart", req: typed("multipart/form-data; boundary=x", "--x--"), status: 400, error: "invalid_request"},
		{name: "T2 no content type", req: typed("", grantBody), status: 400, error: "invalid_request"},
		{name: "T2 malformed content type", req: typed("application/x-www-form-urlencoded;;=", grantBody), status: 400, error: "invalid_request"},
		{name: "T3 client_secret in the URL", req: request{query: good.form()[1:], body: grantBody}, status: 400, error: "invalid_request"},
		{name: "T3 grant_type in the URL", req: request{auth: auth, query: grantBody}, status: 400, error: "invalid_request"},
		{name: "T4 grant_type twice", req: with("&" + grantBody), status: 400, error: "invalid_request"},
		{name: "T4 scope twice, one empty", req: with("&scope=&scope=pets:read"), status: 400, error: "invalid_request"},
		{name: "T4 unknown parameter twice", req: with("&a=1&a=2"), status: 400, error: "invalid_request"},
		{name: "T4 twice in two spellings", req: with("&sc%6Fpe=a&scope=b"), status: 400, error: "invalid_request"},
		{name: "T5 same in URL and body", req: request{auth: auth, query: "scope=pets:read", body: grantBody + "&scope=pets:read"}, status: 400, error: "invalid_request"},
		{name: "T8 no grant_type", req: request{auth: auth, body: "scope=pets:read"}, status: 400, error: "invalid_request"},
		{name: "T8 empty grant_type", req: request{auth: auth, body: "grant_type="}, status: 400, error: "invalid_request"},
		{name: "T8 empty body", req: request{auth: auth}, status: 400, error: "invalid_request"},
		{name: "T9 unknown grant_type", req: request{auth: auth, body: "grant_type=urn:x:canary"}, status: 400, error: "unsupported_grant_type"},
		{name: "T9 grant_type in other case", req: request{auth: auth, body: "grant_type=Client_Credentials"}, status: 400, error: "unsupported_grant_type"},
		{name: "T30 password grant", req: request{auth: auth, body: "grant_type=password&username=a&password=canary"}, status: 400, error: "unsupported_grant_type"},
		{name: "T10 wrong secret, Basic", req: as(Client{good.ID, "canary"}), status: 401, error: "invalid_client"},
		{name: "T10 wrong secret, body", req: post(Client{good.ID, "canary"}), status: 401, error: "invalid_client"},
		{name: "T10 another client's secret", req: as(Client{good.ID, c.Other.Secret}), status: 401, error: "invalid_client"},
		{name: "T11 unknown client", req: as(Client{"nobody", "canary"}), status: 401, error: "invalid_client"},
		{name: "T12 no colon", req: raw("canary"), status: 401, error: "invalid_client"},
		{name: "T12 bad base64", req: request{auth: []string{"Basic !!!"}, body: grantBody}, status: 401, error: "invalid_client"},
		{name: "T12 no padding", req: request{auth: []string{strings.TrimRight(basic("a:bc"), "=")}, body: grantBody}, status: 401, error: "invalid_client"},
		{name: "T12 NUL", req: raw("ck\x00:canary"), status: 401, error: "invalid_client"},
		{name: "T12 encoded NUL", req: raw("ck%00:canary"), status: 401, error: "invalid_client"},
		{name: "T12 not UTF-8", req: raw("\xff\xfe:canary"), status: 401, error: "invalid_client"},
		{name: "T12 bad percent", req: raw(good.ID + ":%zz"), status: 401, error: "invalid_client"},
		{name: "T12 empty", req: request{auth: []string{"Basic"}, body: grantBody}, status: 401, error: "invalid_client"},
		{name: "T12 two spaces", req: request{auth: []string{strings.Replace(good.basic(), " ", "  ", 1)}, body: grantBody}, status: 401, error: "invalid_client"},
		{name: "T12 20 KiB", req: raw(strings.Repeat("x", 10<<10) + ":" + strings.Repeat("y", 10<<10)), status: 401, error: "invalid_client"},
		{name: "T12 long id in the body", req: post(Client{strings.Repeat("x", 8<<10), "canary"}), status: 401, error: "invalid_client"},
		{name: "another scheme", req: request{auth: []string{"Bearer canary"}, body: grantBody}, status: 401, error: "invalid_client"},
		{name: "joined by a comma", req: request{auth: []string{good.basic() + "," + good.basic()}, body: grantBody}, status: 401, error: "invalid_client"},
		{name: "two Authorization headers", req: request{auth: []string{good.basic(), good.basic()}, body: grantBody}, status: 400, error: "invalid_request", joined: 401},
		{name: "T13 Basic and client_secret", req: with(good.form()), status: 400, error: "invalid_request"},
		{name: "T14 client_id of another client", req: with("&client_id=" + c.Other.ID), status: 400, error: "invalid_request"},
		{name: "T16 registered for Basic, sends body", req: post(c.BasicOnly), status: 401, error: "invalid_client"},
		{name: "T16 registered for body, sends Basic", req: as(c.PostOnly), status: 401, error: "invalid_client"},
		{name: "T17 client_id alone", req: request{body: grantBody + "&client_id=" + good.ID}, status: 401, error: "invalid_client"},
		{name: "T17 empty secret, body", req: post(Client{good.ID, ""}), status: 401, error: "invalid_client"},
		{name: "T17 empty secret, Basic", req: raw(good.ID + ":"), status: 401, error: "invalid_client"},
		{name: "no credentials", req: request{body: grantBody}, status: 401, error: "invalid_client"},
		{name: "empty id", req: raw(":" + good.Secret), status: 401, error: "invalid_client"},
		{name: "T20 nothing left of the scopes", req: with("&scope=vault:open+canary"), status: 400, error: "invalid_scope"},
		{name: "T20 management scope", req: with("&scope=tollgate:admin"), status: 400, error: "invalid_scope"},
		{name: "T22 quote", req: with("&scope=pets:read+%22canary"), status: 400, error: "invalid_scope"},
		{name: "T22 backslash", req: with("&scope=pets:read+a%5C"), status: 400, error: "invalid_scope"},
		{name: "T22 TAB", req: with("&scope=pets:read%09pets:write"), status: 400, error: "invalid_scope"},
		{name: "T22 line break", req: with("&scope=pets:read%0d%0acanary"), status: 400, error: "invalid_scope"},
		{name: "T22 not ASCII", req: with("&scope=pets:read+%C3%BC"), status: 400, error: "invalid_scope"},
		{name: "T22 not UTF-8", req: with("&scope=%ff"), status: 400, error: "invalid_scope"},
		{name: "T22 spaces alone", req: with("&scope=++"), status: 400, error: "invalid_scope"},
		{name: "T25 application rejected", req: as(c.Rejected), status: 401, error: "invalid_client"},
		{name: "T25 application not approved", req: as(c.Created), status: 401, error: "invalid_client"},
		{name: "T25 owner disabled", req: as(c.Orphan), status: 401, error: "invalid_client"},
		{name: "T26 64 KiB of scope", req: with("&scope=" + strings.Repeat("a", 64<<10)), status: 413, error: "invalid_request"},
		{name: "T26 10,000 scopes", req: with("&scope=" + strings.Repeat("scope+", 10_000)), status: 413, error: "invalid_request"},
		{name: "T26 long scope", req: with("&scope=" + strings.Repeat("a", 10_000)), status: 400, error: "invalid_scope"},
		{name: "T26 many scopes", req: with("&scope=" + strings.Repeat("a+", 5_000)), status: 400, error: "invalid_scope"},
		{name: "T26 1 MiB", req: with("&x=" + strings.Repeat("a", 1<<20)), status: 413, error: "invalid_request"},
		{name: "T27 1,000 parameters", req: with(manyParameters(1000)), status: 400, error: "invalid_request"},
		{name: "bad percent in a value", req: with("&scope=%zz"), status: 400, error: "invalid_request"},
		{name: "bad percent in a name", req: with("&%zz=1"), status: 400, error: "invalid_request"},
		{name: "T29 expired secret", req: as(c.Expired), status: 401, error: "invalid_client"},
		{name: "no such endpoint", req: request{path: "/oauth2/other", auth: auth, body: grantBody}, status: 404, error: "invalid_request", gateway: 404},
		{name: "slash at the end", req: request{path: "/oauth2/token/", auth: auth, body: grantBody}, status: 404, error: "invalid_request", gateway: 404},
	}
	for _, client := range c.OtherGrants {
		rows = append(rows, row{name: "T19 another grant type", req: as(client), status: 400, error: "unauthorized_client"})
	}
	c.refused(t, rows)
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p" + strconv.Itoa(i) + "=1")
	}
	return b.String()
}
