package oauthtest

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// T11: everything that is wrong with a client looks the same.
func refusedClientsLookAlike(t *testing.T, c *checker) {
	var want reply
	for i, client := range []Client{{c.Shop.ID, "wrong"}, {"nobody", "wrong"}, c.Rejected, c.Orphan, {c.Rejected.ID, "wrong"}, c.Expired} {
		got := c.do(t, request{auth: []string{client.basic()}, body: grantBody})
		dropVarying(got)
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("client %d (-wrong secret +this):\n%s", i, diff)
		}
	}
}

// dropVarying takes out the headers that differ between any two answers.
func dropVarying(r reply) {
	for _, name := range []string{"Date", "X-Request-Id", "X-Envoy-Upstream-Service-Time"} {
		r.Header.Del(name)
	}
}

var tokenForm = regexp.MustCompile(`^tgat_[A-Za-z0-9_-]{40,}$`)

// tokenIssued: what a client gets that asks well.
func tokenIssued(t *testing.T, c *checker) {
	const all = "orders:read pets:read pets:write"
	seen := map[string]bool{}
	for _, tt := range []struct {
		name  string
		body  string // after grant_type
		scope string // in the answer
	}{
		{"T6 unknown parameter", "&foo=1", all},
		{"T7 empty scope", "&scope=", all},
		{"no scope: those of all APIs, none of the management plane", "", all},
		{"T20 what is not allowed is left out", "&scope=pets:read+vault:open+unheard-of", "pets:read"},
		{"T21 other order, repeated, many spaces", "&scope=++pets:write++orders:read+pets:write+", "orders:read pets:write"},
		{"management scope when asked for", "&scope=tollgate:introspect+pets:read", "pets:read tollgate:introspect"},
		{"management scope that was not given", "&scope=tollgate:introspect+tollgate:admin", "tollgate:introspect"},
		{"T14 client_id of the same client", "&client_id=" + c.Watcher.ID, all},
		{"empty client_secret is none", "&client_secret=", all},
		{"empty pairs", "&&&", all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := c.do(t, request{auth: []string{c.Watcher.basic()}, body: grantBody + tt.body})
			value := got.text("access_token")
			if got.Status != http.StatusOK || got.text("token_type") != "Bearer" || got.text("scope") != tt.scope ||
				got.member("refresh_token") != nil || !tokenForm.MatchString(value) || seen[value] {
				t.Errorf("%d, scope %q, a token: %v", got.Status, got.text("scope"), tokenForm.MatchString(value))
			}
			seen[value] = true
			// T24: expires_in is the life that is stored.
			facts := c.ask(t, c.Watcher.basic(), value)
			exp, _ := facts.member("exp").(float64)
			iat, _ := facts.member("iat").(float64)
			if life, ok := got.member("expires_in").(float64); !ok || life < 1 || life-(exp-iat) > 1 || (exp-iat)-life > 1 {
				t.Errorf("expires_in %v, stored %v", got.member("expires_in"), exp-iat)
			}
			if facts.text("scope") != tt.scope {
				t.Errorf("stored scope %q, want %q", facts.text("scope"), tt.scope)
			}
		})
	}
	if got := c.do(t, request{auth: []string{c.Other.basic()}, body: grantBody}); got.Status != http.StatusOK || got.member("scope") != nil {
		t.Errorf("of an application with no API: %d, scope %v, want no scope", got.Status, got.member("scope"))
	}
}

// clientAuthenticates: every way that is allowed.
func clientAuthenticates(t *testing.T, c *checker) {
	var escaped strings.Builder // T15
	for i := range len(c.Shop.ID) {
		escaped.WriteString("%" + strconv.FormatInt(int64(c.Shop.ID[i]), 16))
	}
	for name, r := range map[string]request{
		"Basic":                           {auth: []string{c.Shop.basic()}, body: grantBody},
		"Basic, scheme in any case":       {auth: []string{strings.Replace(c.Shop.basic(), "Basic", "bAsIc", 1)}, body: grantBody},
		"body":                            {body: grantBody + c.Shop.form()},
		"registered for Basic":            {auth: []string{c.BasicOnly.basic()}, body: grantBody},
		"registered for the body":         {body: grantBody + c.PostOnly.form()},
		"T15 Basic is decoded, each byte": {auth: []string{basic(escaped.String() + ":" + c.Shop.Secret)}, body: grantBody},
		"T29 second live secret":          {auth: []string{c.Second.basic()}, body: grantBody},
		"content type with charset": {auth: []string{c.Shop.basic()}, body: grantBody,
			contentType: text("application/x-www-form-urlencoded; charset=UTF-8")},
		"content type in other case": {auth: []string{c.Shop.basic()}, body: grantBody,
			contentType: text("Application/X-WWW-Form-URLencoded")},
	} {
		if got := c.do(t, r); got.Status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
}

// T28: guessing from one address is stopped; the client itself, at another
// one, is heard all the time.
func guessingIsStopped(t *testing.T, c *checker) {
	attacker, victim, refused := c.address(), c.address(), 0
	for i := range 50 {
		got := c.do(t, request{auth: []string{Client{c.Shop.ID, "wrong"}.basic()}, body: grantBody, from: attacker})
		switch got.Status {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			refused++
			if wait, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
				t.Errorf("Retry-After is %q", got.Header.Get("Retry-After"))
			}
		default:
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		if i%10 != 0 {
			continue
		}
		if got := c.do(t, request{auth: []string{c.Shop.basic()}, body: grantBody, from: victim}); got.Status != http.StatusOK {
			t.Fatalf("the client itself, elsewhere: %d", got.Status)
		}
	}
	if refused < 30 {
		t.Errorf("%d of 50 were not heard", refused)
	}
	if got := c.do(t, request{auth: []string{c.Shop.basic()}, body: grantBody, from: attacker}); got.Status != http.StatusTooManyRequests {
		t.Errorf("the right secret from there: %d", got.Status)
	}
}
