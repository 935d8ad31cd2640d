package oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth/oauthtest"
)

// What the endpoints promise to whoever calls them.
func TestStatements(t *testing.T) {
	r := newRig(t)
	oauthtest.Check(t, r.site())
}

// T32, RV8, IN9: while the store is down, nothing is said but "later".
func TestStatementsWhileTheStoreIsDown(t *testing.T) {
	r := newRig(t)
	site, value := r.site(), r.issue(r.client, "")
	for _, call := range []string{"ClientFacts", "TokenByDigest", "TokenFacts", "CreateToken", "InTx"} {
		r.store.breaks(call, errDown)
	}
	oauthtest.StorageDown(t, site, value)
}

// site is the handler as a place for statements.
func (r *rig) site() oauthtest.Site {
	return oauthtest.Site{
		URL: r.server.URL, Issuer: issuer, World: r.world(), Log: r.log.String,
		Do: func(from int, req *http.Request) (*http.Response, error) {
			req.Header.Set(addressHeader, netip.AddrFrom4([4]byte{10, 0, byte(from >> 8), byte(from)}).String())
			return r.server.Client().Do(req)
		},
		Changes: func(testing.TB) string {
			return fmt.Sprintf("%d tokens, log at %s", r.store.count("CreateToken"), r.head())
		},
	}
}

// world makes everybody that the statements speak of.
func (r *rig) world() oauthtest.World {
	ctx := context.Background()
	r.organization("rival")
	for id, status := range map[keymanager.UserID]keymanager.UserStatus{"bob": keymanager.UserDisabled, "carol": keymanager.UserActive} {
		r.ok(r.store.CreateUser(ctx, &keymanager.User{ID: id, Organization: "acme", Name: string(id),
			UserStore: keymanager.PrimaryUserStore, Status: status}))
	}
	give := func(scope keymanager.Scope) func(*keymanager.Application) {
		return func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{scope} }
	}
	status := func(s keymanager.ApplicationStatus) func(*keymanager.Application) {
		return func(a *keymanager.Application) { a.Status = s }
	}
	method := func(c credentials, m string) oauthtest.Client {
		r.change(keymanager.ConsumerKey(c.id), func(k *keymanager.Client) { k.AuthMethod = m })
		return c.public()
	}
	w := oauthtest.World{
		Shop:      r.client.public(),
		Sandbox:   r.secondKey("shop").public(),
		Second:    r.moreSecret("second", r.clock.Now().Add(24*time.Hour)),
		Expired:   r.moreSecret("expired", r.clock.Now()),
		Watcher:   r.application("watcher", give(keymanager.ScopeIntrospect)).public(),
		Other:     r.application("other", give(keymanager.ScopeAdmin)).public(),
		BasicOnly: method(r.application("basic-only", nil), keymanager.AuthMethodBasic),
		PostOnly:  method(r.application("post-only", nil), keymanager.AuthMethodPost),
		Rejected:  r.application("rejected", status(keymanager.ApplicationRejected)).public(),
		Created:   r.application("created", status(keymanager.ApplicationCreated)).public(),
		Orphan:    r.application("orphan", func(a *keymanager.Application) { a.Owner = "bob" }).public(),
		Stranger: r.application("stranger", func(a *keymanager.Application) {
			a.Organization, a.Owner, a.Scopes = "rival", "alice-rival", []keymanager.Scope{keymanager.ScopeIntrospect}
		}).public(),
		Dead: r.deadTokens(),
	}
	r.subscribe("watcher", "pets")
	r.subscribe("watcher", "orders")
	for i, grants := range [][]string{nil, {"authorization_code"}} {
		name := fmt.Sprintf("other-grant%d", i)
		other := r.application(name, nil).public()
		r.change(keymanager.ConsumerKey(other.ID), func(c *keymanager.Client) { c.GrantTypes = grants })
		w.OtherGrants = append(w.OtherGrants, other)
	}
	var err error
	w.Unissued, err = r.minter.AccessToken()
	r.ok(err)
	w.APIKey, err = r.minter.APIKey()
	r.ok(err)
	return w
}

// deadTokens makes tokens, and then what ends them.
func (r *rig) deadTokens() map[string]string {
	ctx := context.Background()
	dead := map[string]string{}
	token := func(why string) {
		carols := func(a *keymanager.Application) { a.Owner = "carol" }
		dead[why] = r.issue(r.application("dead: "+why, carols), "")
	}
	token("expired")
	r.clock.advance(time.Hour)
	dead["revoked"] = r.issue(r.client, "")
	r.revoke(r.client, dead["revoked"], "")
	token("rejected")
	a, err := r.store.Application(ctx, "dead: rejected")
	r.ok(err)
	a.Status = keymanager.ApplicationRejected
	r.ok(r.store.UpdateApplication(ctx, a))
	token("client deleted")
	r.ok(r.store.DeleteClient(ctx, "ck-dead: client deleted"))
	token("application deleted")
	r.ok(r.store.DeleteApplication(ctx, "dead: application deleted"))
	token("owner disabled")
	u, err := r.store.User(ctx, "carol")
	r.ok(err)
	u.Status = keymanager.UserDisabled
	r.ok(r.store.UpdateUser(ctx, u))
	return dead
}

// moreSecret gives shop another secret.
func (r *rig) moreSecret(value string, expires time.Time) oauthtest.Client {
	value = "canary-" + value + "-secret"
	r.secret("ck-shop", value, expires)
	return oauthtest.Client{ID: "ck-shop", Secret: value}
}

func (c credentials) public() oauthtest.Client { return oauthtest.Client{ID: c.id, Secret: c.secret} }
