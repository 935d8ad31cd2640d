package oauth_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
)

const inactive = `{"active":false}`

func (r *rig) introspect(auth, value string) reply {
	r.t.Helper()
	return r.do(request{path: oauth.PathIntrospect, auth: []string{auth}, body: "token=" + url.QueryEscape(value)})
}

func TestIntrospectOwnToken(t *testing.T) {
	r := newRig(t)
	value := r.issue(r.client, "pets:read pets:write")
	stored := r.stored(value)
	for _, auth := range []string{r.client.basic(), "Bearer " + r.issue(r.client, "orders:read"), "Bearer " + value} {
		got := r.introspect(auth, value)
		var members map[string]any
		r.ok(json.Unmarshal([]byte(got.body), &members))
		want := map[string]any{
			"active": true, "scope": "pets:read pets:write", "client_id": "ck-shop", "username": "PRIMARY/alice",
			"token_type": "Bearer", "exp": float64(stored.ExpiresAt.Unix()), "iat": float64(stored.IssuedAt.Unix()),
			"sub": "ck-shop", "iss": issuer, "jti": stored.ID.String(),
			"user_type": "APPLICATION", "key_type": "PRODUCTION", "organization": "acme",
			"application": map[string]any{"id": "shop", "name": "shop", "owner": "PRIMARY/alice", "tier": "Gold"},
		}
		if diff := cmp.Diff(want, members); got.status != http.StatusOK || diff != "" {
			t.Errorf("%d (-want +got):\n%s", got.status, diff)
		}
	}
}

// Who sees which token: its client, and those with tollgate:introspect in its
// organization.
func TestIntrospectWhoSees(t *testing.T) {
	r := newRig(t)
	other := r.application("other", nil)
	sandbox := r.secondKey("shop")
	watch := func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{keymanager.ScopeIntrospect} }
	admin := r.application("admin", func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{keymanager.ScopeAdmin} })
	watcher := r.application("watcher", watch)
	r.organization("rival")
	spyGlass := r.application("spy", func(a *keymanager.Application) { watch(a); a.Organization = "rival"; a.Owner = "alice-rival" })

	value := r.issue(r.client, "pets:read")
	for _, tt := range []struct {
		name, auth string
		sees       bool
	}{
		{"the client", r.client.basic(), true},
		{"IN5 IN14 another client", other.basic(), false},
		{"another client's token", "Bearer " + r.issue(other, ""), false},
		{"another key of the application", sandbox.basic(), false},
		{"administrator without the scope", admin.basic(), false},
		{"administrator's token", "Bearer " + r.issue(admin, "tollgate:admin"), false},
		{"with the scope", watcher.basic(), true},
		{"token with the scope", "Bearer " + r.issue(watcher, "tollgate:introspect"), true},
		{"token without, of a client with the scope", "Bearer " + r.issue(watcher, ""), false},
		{"with the scope, in another organization", spyGlass.basic(), false},
		{"token with the scope, in another organization", "Bearer " + r.issue(spyGlass, "tollgate:introspect"), false},
	} {
		got := r.introspect(tt.auth, value)
		if sees := got.member("active") == true; got.status != http.StatusOK || sees != tt.sees || !sees && got.body != inactive {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
	}
}

// secondKey gives an application a SANDBOX key.
func (r *rig) secondKey(app string) credentials {
	return r.newClient(app, func(c *keymanager.Client) { c.KeyType = keymanager.Sandbox; c.ConsumerKey += "-sandbox" })
}

// IN2, IN3: everything that is not a live token looks the same, also to one
// who may see all.
func TestIntrospectInactive(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		make func(*rig) string
	}{
		{"never issued", func(r *rig) string { v, _ := r.minter.AccessToken(); return v }},
		{"malformed", func(*rig) string { return "canary" }},
		{"changed", func(r *rig) string { v := r.issue(r.client, ""); return v[:30] + "-" + v[31:] }},
		{"another spelling", func(r *rig) string { return r.issue(r.client, "") + "=" }},
		{"an API key", func(r *rig) string { v, _ := r.minter.APIKey(); return v }},
		{"a client secret", func(*rig) string { return "tgcs_" }},
		{"IN6 a JWT", func(*rig) string { return "eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9." }},
		{"expired", func(r *rig) string {
			v := r.issue(r.client, "")
			r.clock.advance(time.Hour)
			return v
		}},
		{"revoked", func(r *rig) string {
			v := r.issue(r.client, "")
			r.revoke(r.client, v, "")
			return v
		}},
		{"revoked, clock set back", func(r *rig) string {
			v := r.issue(r.client, "")
			r.revoke(r.client, v, "")
			r.clock.advance(-30 * time.Minute)
			return v
		}},
		{"IN7 owner disabled", func(r *rig) string {
			v := r.issue(r.client, "")
			u, err := r.store.User(ctx, "alice-acme")
			r.ok(err)
			u.Status = keymanager.UserDisabled
			r.ok(r.store.UpdateUser(ctx, u))
			return v
		}},
		{"application rejected", func(r *rig) string {
			v := r.issue(r.client, "")
			a, err := r.store.Application(ctx, "shop")
			r.ok(err)
			a.Status = keymanager.ApplicationRejected
			r.ok(r.store.UpdateApplication(ctx, a))
			return v
		}},
		{"client deleted", func(r *rig) string {
			v := r.issue(r.client, "")
			r.ok(r.store.DeleteClient(ctx, "ck-shop"))
			return v
		}},
		{"application deleted", func(r *rig) string {
			v := r.issue(r.client, "")
			r.ok(r.store.DeleteApplication(ctx, "shop"))
			return v
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			// An owner of its own, who stays.
			r.ok(r.store.CreateUser(ctx, &keymanager.User{ID: "carol", Organization: "acme", Name: "carol",
				UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}))
			watcher := r.application("watcher", func(a *keymanager.Application) {
				a.Owner, a.Scopes = "carol", []keymanager.Scope{keymanager.ScopeIntrospect}
			})
			value := tt.make(r)
			if got := r.introspect(watcher.basic(), value); got.status != http.StatusOK || got.body != inactive {
				t.Errorf("%d %s", got.status, got.body)
			}
			// As bearer it opens nothing either.
			if strings.HasPrefix(value, "tg") {
				got := r.introspect("Bearer "+value, value)
				if got.status != http.StatusUnauthorized || got.text("error") != "invalid_token" ||
					!strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("as bearer: %d %s", got.status, got.body)
				}
			}
		})
	}
}

func TestIntrospectRefusals(t *testing.T) {
	r := newRig(t)
	value := r.issue(r.client, "")
	body := "token=" + value
	auth := []string{r.client.basic()}
	for _, tt := range []struct {
		name   string
		req    request
		status int
		error  string
	}{
		{"IN1 no credentials", request{body: body}, 401, "invalid_client"},
		{"IN1 wrong secret", request{auth: []string{credentials{r.client.id, "canary"}.basic()}, body: body}, 401, "invalid_client"},
		{"IN1 unknown client", request{auth: []string{credentials{"nobody", "canary"}.basic()}, body: body}, 401, "invalid_client"},
		{"IN1 forged bearer", request{auth: []string{"Bearer " + value[:40] + "-" + value[41:]}, body: body}, 401, "invalid_token"},
		{"IN1 empty bearer", request{auth: []string{"Bearer"}, body: body}, 401, "invalid_client"},
		{"bearer and secret", request{auth: []string{"Bearer " + value}, body: body + "&client_secret=canary"}, 400, "invalid_request"},
		{"bearer twice", request{auth: []string{"Bearer " + value, "Bearer " + value}, body: body}, 400, "invalid_request"},
		{"IN10 GET", request{method: "GET", auth: auth, query: body}, 405, "invalid_request"},
		{"IN10 token in the URL", request{auth: auth, query: body}, 400, "invalid_request"},
		{"no token", request{auth: auth}, 400, "invalid_request"},
		{"token twice", request{auth: auth, body: body + "&" + body}, 400, "invalid_request"},
	} {
		tt.req.path = oauth.PathIntrospect
		got := r.do(tt.req)
		if got.status != tt.status || got.text("error") != tt.error {
			t.Errorf("%s: %d %s, want %d %q", tt.name, got.status, got.body, tt.status, tt.error)
		}
		if got.member("active") != nil {
			t.Errorf("%s: says something about the token: %s", tt.name, got.body)
		}
	}
}

// IN9: neither true nor false.
func TestIntrospectWhileTheStoreIsDown(t *testing.T) {
	r := newRig(t)
	value := r.issue(r.client, "")
	for _, at := range []string{"ClientFacts", "TokenFacts"} {
		for _, down := range []error{errDown, errOdd, keymanager.Errorf(keymanager.KindInternal, "broken row")} {
			r.store.breaks(at, down)
			r.checkUnavailable(r.introspect(r.client.basic(), value))
			if at == "TokenFacts" {
				r.checkUnavailable(r.introspect("Bearer "+value, value))
			}
			r.store.breaks(at, nil)
		}
	}
}

// IN11: what does not carry our tag costs no look at the tokens.
func TestForgedTokensAreNotLookedUp(t *testing.T) {
	r := newRig(t)
	value := r.issue(r.client, "")
	for i := range 100 {
		forged := value[:20+i%30] + "-" + value[21+i%30:]
		if forged == value {
			continue
		}
		if got := r.introspect(r.client.basic(), forged); got.body != inactive {
			t.Fatalf("%d %s", got.status, got.body)
		}
		r.revoke(r.client, forged, "")
	}
	if n := r.store.count("TokenFacts") + r.store.count("TokenByDigest"); n != 0 {
		t.Errorf("%d look-ups", n)
	}
}
