package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
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

// secondKey gives an application a SANDBOX key.
func (r *rig) secondKey(app string) credentials {
	return r.newClient(app, func(c *keymanager.Client) { c.KeyType = keymanager.Sandbox; c.ConsumerKey += "-sandbox" })
}

// A revoked token stays so when the clock is set back.
func TestIntrospectRevokedWithTheClockSetBack(t *testing.T) {
	r := newRig(t)
	value := r.issue(r.client, "")
	r.revoke(r.client, value, "")
	r.clock.advance(-30 * time.Minute)
	if got := r.introspect(r.client.basic(), value); got.status != http.StatusOK || got.body != inactive {
		t.Errorf("%d %s", got.status, got.body)
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
