//go:build !short

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// twoAPIs: RS17, tokens of two applications on APIs that know them under other
// rights, on connections that all share: each call is decided by its own.
func twoAPIs(t *testing.T, pl *place) {
	one, two := pl.token(t, "buyer"), pl.token(t, "second")
	calls := []struct {
		target, token           string
		status                  int
		code, application, tier string
	}{
		{"/shop/1.0.0/items", one, 200, "", "buyer", "Gold"},
		{"/stock/1.0.0/items", one, 200, "", "buyer", "Bronze"},
		{"/stock/1.0.0/admin", one, 200, "", "buyer", "Bronze"},
		{"/shop/1.0.0/user", one, 401, "900905", "", ""},
		{"/shop/1.0.0/items", two, 200, "", "second", "Bronze"},
		{"/stock/1.0.0/items", two, 403, "900908", "", ""},
		{"/stock/1.0.0/admin", two, 403, "900908", "", ""},
		{"/shop/1.0.0/open", two, 200, "", "", "Unauthenticated"},
		{"/shop/1.0.0/items", "", 401, "900902", "", ""},
		{"/nothing/1.0.0/items", one, 404, "404", "", ""},
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	for name, transport := range map[string]*http.Transport{"HTTP/1": {MaxConnsPerHost: 2}, "HTTP/2": {Protocols: protocols}} {
		client := &http.Client{Transport: transport, Timeout: rig.Patience}
		defer transport.CloseIdleConnections()
		var wait sync.WaitGroup
		for i := range 4 {
			wait.Go(func() {
				for n := range 100 {
					c := calls[(n*(2*i+1)+i)%len(calls)]
					status, body, err := getWith(t.Context(), client, "http://"+pl.Gateway+c.target, c.token)
					var answer struct {
						Code    string            `json:"code"`
						Headers map[string]string `json:"headers"`
					}
					if err == nil {
						err = json.Unmarshal([]byte(body), &answer)
					}
					if err != nil || status != c.status || answer.Code != c.code || answer.Headers["x-tollgate-application"] != c.application ||
						answer.Headers["x-tollgate-subscription-tier"] != c.tier {
						t.Errorf("%s %s: %d %s, %v; want %d %s", name, c.target, status, body, err, c.status, c.code)
					}
				}
			})
		}
		wait.Wait()
	}
}

func getWith(ctx context.Context, client *http.Client, url, token string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := rig.Send(client, req)
	return a.Status, a.Body, err
}

// passage: what is let through arrives as it was sent, and what the back end
// says comes back.
func passage(t *testing.T, pl *place) {
	live := pl.token(t, "buyer")
	post := func(lines []string, body string) func() envoytest.Reply {
		return func() envoytest.Reply {
			return envoytest.Raw(t, pl.Gateway, envoytest.Request("POST", "/shop/1.0.0/any/x", "localhost", append(lines, bearer(live))...)+body)
		}
	}
	large := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	for name, tt := range map[string]struct {
		lines      []string
		body, seen string
	}{
		"empty":             {[]string{"Content-Length: 0"}, "", ""},
		"a form":            {[]string{"Content-Length: 11", "Content-Type: application/x-www-form-urlencoded"}, "apikey=mine", "apikey=mine"},
		"any bytes":         {[]string{"Content-Length: 4"}, "\x00\xff\r\n", "\x00\xff\r\n"},
		"chunked":           {[]string{"Transfer-Encoding: chunked"}, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"},
		"a mebibyte":        {[]string{fmt.Sprintf("Content-Length: %d", len(large))}, large, large},
		"two hosts' cookie": {[]string{"Content-Length: 0", "Cookie: a=1; b=2", "X-Own: kept"}, "", ""},
	} {
		seen := pl.allowed(t, name, post(tt.lines, tt.body))
		if seen.Body != tt.seen {
			t.Errorf("%s: the back end got %d bytes, want %d", name, len(seen.Body), len(tt.seen))
		}
		if strings.HasPrefix(name, "two") && (seen.Get("cookie")[0] != "a=1; b=2" || seen.Get("x-own")[0] != "kept") {
			t.Errorf("the back end got %v", seen.Headers)
		}
	}
	// A refused body is not sent on.
	pl.forget()
	r := envoytest.Raw(t, pl.Gateway, envoytest.Request("POST", "/shop/1.0.0/any/x", "localhost", "Content-Length: 5")+"hello")
	missing.check(t, "a body without a credential", r)
	if pl.reached() != 0 {
		t.Error("a back end was reached")
	}

	// The back end's own refusals are its own.
	pl.production.Respond(func(envoytest.Seen) envoytest.Response {
		return envoytest.Response{Status: 401, Body: "mine", Headers: []envoytest.Field{{Name: "www-authenticate", Value: "Basic realm=mine"}}}
	})
	defer pl.production.Respond(nil)
	if r := pl.get(t, "/shop/1.0.0/items", bearer(live)); r.Status != 401 || r.Body != "mine" || r.Header.Get("WWW-Authenticate") != "Basic realm=mine" {
		t.Errorf("the back end's 401: %+v", r)
	}
	pl.production.Respond(nil)

	// A back end that is gone is not an outage of ours.
	before := metric(t, pl.Rig, `code="900900"`)
	pl.production.Stop()
	down := refusal{503, "503", ""}
	down.check(t, "the back end is gone", pl.get(t, "/shop/1.0.0/items", bearer(live)))
	missing.check(t, "the back end is gone, no credential", pl.get(t, "/shop/1.0.0/items"))
	pl.production.Start()
	pl.allowed(t, "the back end is there again", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", bearer(live)) })
	if n := metric(t, pl.Rig, `code="900900"`) - before; n != 0 {
		t.Errorf("%v decisions were counted as undecided", n)
	}
}
