package oauth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/validator"
)

// One table of what happens to an application and its owner, and every place
// that honours credentials: none may forget the check. A grant type that is
// added without a row in grantBodies fails.
func TestPolicySweep(t *testing.T) {
	ctx := context.Background()
	application := func(status keymanager.ApplicationStatus) func(*rig) {
		return func(r *rig) {
			a, err := r.store.Application(ctx, "shop")
			r.ok(err)
			a.Status = status
			r.ok(r.store.UpdateApplication(ctx, a))
		}
	}
	owner := func(status keymanager.UserStatus) func(*rig) {
		return func(r *rig) {
			u, err := r.store.User(ctx, "alice-acme")
			r.ok(err)
			u.Status = status
			r.ok(r.store.UpdateUser(ctx, u))
		}
	}
	grantBodies := map[string]string{"client_credentials": ccBody}

	for _, tt := range []struct {
		name   string
		happen func(*rig)
		reason keymanager.Reason
	}{
		{"nothing", func(*rig) {}, keymanager.ReasonActive},
		{"application approved", application(keymanager.ApplicationApproved), keymanager.ReasonActive},
		{"application created", application(keymanager.ApplicationCreated), keymanager.ReasonApplicationInactive},
		{"application rejected", application(keymanager.ApplicationRejected), keymanager.ReasonApplicationInactive},
		{"application deleted", func(r *rig) { r.ok(r.store.DeleteApplication(ctx, "shop")) }, keymanager.ReasonNoSuchCredential},
		{"client deleted", func(r *rig) { r.ok(r.store.DeleteClient(ctx, "ck-shop")) }, keymanager.ReasonNoSuchCredential},
		{"owner active", owner(keymanager.UserActive), keymanager.ReasonActive},
		{"owner disabled", owner(keymanager.UserDisabled), keymanager.ReasonUserInactive},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.ok(r.store.CreateUser(ctx, &keymanager.User{ID: "carol", Organization: "acme", Name: "carol",
				UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}))
			watcher := r.application("watcher", func(a *keymanager.Application) {
				a.Owner, a.Scopes = "carol", []keymanager.Scope{keymanager.ScopeIntrospect}
			})
			value, doomed := r.issue(r.client, ""), r.issue(r.client, "")
			v, err := validator.New(validator.Options{Store: r.store, Tags: r.tags, Peppers: r.peppers, Now: r.clock.Now})
			r.ok(err)
			tt.happen(r)
			honoured := tt.reason == keymanager.ReasonActive
			status := http.StatusUnauthorized
			if honoured {
				status = http.StatusOK
			}
			served := r.metadata(request{})["grant_types_supported"]

			for _, when := range []string{"at once", "after a restart"} {
				for _, grant := range served.([]any) {
					body, ok := grantBodies[grant.(string)]
					if !ok {
						t.Fatalf("grant type %s has no row", grant)
					}
					if got := r.do(request{auth: []string{r.client.basic()}, body: body}); got.status != status {
						t.Errorf("%s: %s: %d, want %d", when, grant, got.status, status)
					}
				}
				if got := r.introspect(watcher.basic(), value); got.member("active") != honoured {
					t.Errorf("%s: introspection: %s", when, got.body)
				}
				if got := r.introspect(r.client.basic(), value); got.status != status {
					t.Errorf("%s: introspection by the client: %d, want %d", when, got.status, status)
				}
				if got := r.introspect("Bearer "+value, value); got.status != status {
					t.Errorf("%s: introspection by the bearer: %d, want %d", when, got.status, status)
				}
				if got := r.revoke(r.client, doomed, ""); got.status != status {
					t.Errorf("%s: revocation: %d, want %d", when, got.status, status)
				}
				verdict, err := v.Validate(ctx, keymanager.Query{API: "pets",
					Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value}})
				r.ok(err)
				if verdict.Reason != tt.reason {
					t.Errorf("%s: validator: reason %d, want %d", when, verdict.Reason, tt.reason)
				}
				r.restart()
			}
			if diff := cmp.Diff(served, r.metadata(request{})["grant_types_supported"]); diff != "" {
				t.Errorf("grant types (-before +after a restart):\n%s", diff)
			}
		})
	}
}

// restart serves with a new Server over the same store.
func (r *rig) restart() {
	r.t.Helper()
	s, err := oauth.New(oauth.Options{Store: r.store, Minter: r.minter, Tags: r.tags, Peppers: r.peppers, Issuer: issuer, Now: r.clock.Now})
	r.ok(err)
	r.server.Close()
	r.server = httptest.NewServer(s.Handler())
	r.t.Cleanup(r.server.Close)
}
