package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
)

// revoke asks for the revocation of a token.
func (r *rig) revoke(c credentials, value, more string) reply {
	r.t.Helper()
	return r.do(request{path: oauth.PathRevoke, auth: []string{c.basic()}, body: "token=" + url.QueryEscape(value) + more})
}

// dead returns what the log says is dead.
func (r *rig) dead() []keymanager.Dead {
	r.t.Helper()
	dead, err := r.store.LiveDead(context.Background(), r.clock.Now())
	r.ok(err)
	return dead
}

func TestRevoke(t *testing.T) {
	for _, more := range []struct{ name, params string }{
		{"RV1", ""},
		{"RV4 wrong hint", "&token_type_hint=refresh_token"},
		{"RV5 unknown hint", "&token_type_hint=canary"},
		{"right hint", "&token_type_hint=access_token"},
	} {
		t.Run(more.name, func(t *testing.T) {
			var confirmed []keymanager.Position
			r := newRig(t, func(o *oauth.Options) {
				o.Confirm = func(_ context.Context, p keymanager.Position) error {
					confirmed = append(confirmed, p)
					return nil
				}
			})
			value, bystander := r.issue(r.client, ""), r.issue(r.client, "")
			id := r.stored(value).ID
			before := r.head()
			r.clock.advance(time.Minute)

			got := r.revoke(r.client, value, more.params)
			if got.status != http.StatusOK || got.body != "" {
				t.Errorf("%d %q, want 200 without a body", got.status, got.body)
			}
			stored := r.stored(value)
			if !stored.RevokedAt.Equal(r.clock.Now()) {
				t.Errorf("revoked at %s, want %s", stored.RevokedAt, r.clock.Now())
			}
			if !r.stored(bystander).RevokedAt.IsZero() {
				t.Error("another token of the client was revoked too")
			}
			if diff := cmp.Diff([]keymanager.Dead{{TokenID: id, ExpiresAt: stored.ExpiresAt}}, r.dead()); diff != "" {
				t.Errorf("dead (-want +got):\n%s", diff)
			}
			head := r.head()
			if head.Seq != before.Seq+1 || len(confirmed) != 1 || confirmed[0] != head {
				t.Errorf("log from %s to %s, waited for %v", before, head, confirmed)
			}

			// RV9: the answer was lost, the client asks again.
			if got := r.revoke(r.client, value, more.params); got.status != http.StatusOK || r.head() != head {
				t.Errorf("again: %d, log at %s, was at %s", got.status, r.head(), head)
			}
		})
	}
}

// An expired token need not be revoked: nothing is written.
func TestRevokeOfExpired(t *testing.T) {
	r := newRig(t)
	expired := r.issue(r.client, "")
	r.clock.advance(time.Hour)
	before := r.head()
	if got := r.revoke(r.client, expired, ""); got.status != http.StatusOK || r.head() != before || r.store.count("InTx") != 0 {
		t.Errorf("%d %q, log at %s, was at %s", got.status, got.body, r.head(), before)
	}
}

// RV8, and the other side of RV9: the commit happened, its answer did not come.
func TestRevokeWhileTheStoreIsDown(t *testing.T) {
	for _, at := range []string{"ClientFacts", "TokenByDigest", "InTx", "commit"} {
		for _, down := range []error{errDown, errOdd} {
			t.Run(at, func(t *testing.T) {
				r := newRig(t)
				value := r.issue(r.client, "")
				r.store.breaks(at, down)
				r.checkUnavailable(r.revoke(r.client, value, ""))
				if got := !r.stored(value).RevokedAt.IsZero(); got != (at == "commit") {
					t.Errorf("revoked: %v", got)
				}
				r.store.breaks(at, nil)
				if got := r.revoke(r.client, value, ""); got.status != http.StatusOK {
					t.Errorf("again: %d", got.status)
				}
				if r.stored(value).RevokedAt.IsZero() || len(r.dead()) != 1 {
					t.Errorf("revoked at %s, dead %v", r.stored(value).RevokedAt, r.dead())
				}
			})
		}
	}
}

// A gateway that does not confirm in time does not undo the revocation.
func TestRevokeUnconfirmed(t *testing.T) {
	r := newRig(t, func(o *oauth.Options) {
		o.Confirm = func(context.Context, keymanager.Position) error { return errors.New("too slow") }
	})
	value := r.issue(r.client, "")
	if got := r.revoke(r.client, value, ""); got.status != http.StatusOK || r.stored(value).RevokedAt.IsZero() {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// checkUnavailable checks that an answer says nothing but "later".
func (r *rig) checkUnavailable(got reply) {
	r.t.Helper()
	after := got.header.Get("Retry-After")
	if got.status != http.StatusServiceUnavailable || got.text("error") != "temporarily_unavailable" || len(after) != 1 || after < "1" || after > "5" {
		r.t.Errorf("%d %s, Retry-After %q; want 503", got.status, got.body, after)
	}
	if got.member("active") != nil || got.member("access_token") != nil {
		r.t.Errorf("the answer says more: %s", got.body)
	}
	if strings.Contains(got.body, errDown.Detail) || strings.Contains(got.body, errOdd.Error()) {
		r.t.Errorf("the answer shows the cause: %s", got.body)
	}
}
