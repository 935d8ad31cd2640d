//go:build !short

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager/oauth/oauthtest"
	"tollgate/keymanager/store/storetest"
)

// The same over PostgreSQL, which can be cut off while all else runs.
func TestPostgres(t *testing.T) {
	link, dsn := postgres(t)
	config := rig.New(t).File("tollgate.yaml", "store: {dsn: '"+dsn+"'}\n")
	e := &effects{place: newPlace(t, effectWorld+uncachedWorld, "--config", config)}
	e.run(t, []effect{
		{"token revoked", (*effects).tokenRevoked},
		{"token revoked while it is used", (*effects).revokedUnderLoad},
		{"subscription", (*effects).subscription},
		{"application", (*effects).application},
		{"user", (*effects).user},
		{"API comes and goes", (*effects).apiComesAndGoes},
		{"storage is cut off", func(e *effects, t *testing.T) { e.storageDown(t, link) }},
		{"after that, token revoked", (*effects).tokenRevoked},
		{"after that, API comes and goes", (*effects).apiComesAndGoes},
		{"started again", (*effects).startedAgain},
	})
	if logs := e.AllLogs(); strings.Contains(logs, "tgat_") || strings.Contains(logs, "tgcs_") || strings.Contains(logs, link.Address()+"/") {
		t.Error("a token, a secret or the DSN is in a log")
	}
}

func TestStartedAgain(t *testing.T) {
	e := &effects{place: newPlace(t, effectWorld)}
	e.startedAgain(t)
}

// With caching switched off every call asks the key manager.
func TestCacheOff(t *testing.T) {
	config := rig.New(t).File("tollgate.yaml", "authz: {cache: \"off\"}\n")
	e := &effects{place: newPlace(t, effectWorld, "--config", config)}
	live := e.token(t, "buyer")
	e.warm(t, bearer(live))
	before := metric(t, e.Rig, "tollgate_authz_keymanager_calls_total")
	e.warm(t, bearer(live))
	if n := metric(t, e.Rig, "tollgate_authz_keymanager_calls_total") - before; n != 3 {
		t.Errorf("the key manager was asked %v times for 3 calls", n)
	}
	e.revoke(t, "buyer/PRODUCTION", live)
	e.next(t, "revoked", 401, "900901", e.items(t, bearer(live)))
	e.put(t, "/subscriptions/buyer-shop/state", spec{"state": "BLOCKED"})
	e.next(t, "blocked", 401, "900907", e.items(t, bearer(e.token(t, "buyer"))))
}

// uncachedWorld is an API about which the key manager is asked on every call.
const uncachedWorld = `
---
kind: API
organization: default
name: strict
spec: {version: 1.0.0, context: /strict, state: PUBLISHED, cache: "off", production: [PRODUCTION_URL], resources: [{method: GET, path: /items}]}
---
{kind: Subscription, organization: default, name: buyer-strict, spec: {application: buyer, api: strict/1.0.0}}
`

// postgres returns a link to a schema of its own, and the address through it.
func postgres(t *testing.T) (*rig.Link, string) {
	t.Helper()
	dsn := storetest.Postgres(t)
	server, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	link := rig.NewLink(t, func(ctx context.Context) (net.Conn, error) {
		network, address := pgconn.NetworkAddress(server.Host, server.Port)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	})
	through := url.URL{Scheme: "postgres", User: url.User(server.User), Host: link.Address(), Path: "/" + server.Database}
	if server.Password != "" {
		through.User = url.UserPassword(server.User, server.Password)
	}
	through.RawQuery = url.Values{"sslmode": {"disable"}, "search_path": {server.RuntimeParams["search_path"]}}.Encode()
	return link, through.String()
}

// storageDown: what is known is served; what is not is "later", never a
// denial; and when the store is back nobody has to do anything.
func (e *effects) storageDown(t *testing.T, link *rig.Link) {
	hot, unknown := e.token(t, "buyer"), e.token(t, "buyer")
	e.warm(t, bearer(hot))
	strict := func() envoytest.Reply { return e.get(t, "/strict/1.0.0/items", bearer(hot)) }
	e.allowed(t, "uncached, before", strict)
	forged := hot[:30] + flip(hot[30]) + hot[31:]
	later := refusal{503, "900900", ""}

	link.Cut()
	e.warm(t, bearer(hot))
	e.forget()
	for range 3 {
		for name, r := range map[string]envoytest.Reply{
			"unknown":  e.items(t, bearer(unknown))(),
			"unissued": e.items(t, bearer(unissued(t, e.Rig)))(),
			"uncached": strict(),
		} {
			later.check(t, name, r)
			if after := r.Header.Get("Retry-After"); len(after) != 1 || after < "1" || after > "5" {
				t.Errorf("%s: Retry-After %q", name, after)
			}
		}
		// These need nobody's word.
		invalid.check(t, "forged", e.items(t, bearer(forged))())
		missing.check(t, "no token", e.items(t)())
		notFound.check(t, "no API", e.get(t, "/nothing/1.0.0/items", bearer(hot)))
	}
	if e.reached() != 0 {
		t.Error("a back end was reached")
	}
	for _, s := range []oauthtest.Site{{URL: "http://" + e.KeyManager, Do: from(3)}, {URL: "http://" + e.Gateway, Do: from(4), Gateway: true}} {
		s.World = oauthtest.World{Shop: oauthtest.Client(e.keys["buyer/PRODUCTION"])}
		oauthtest.StorageDown(t, s, hot)
	}
	if a := e.admin.Call(t, "GET", "/organizations/default/apis", nil, nil); a.Status != 503 {
		t.Errorf("management API: %d %s", a.Status, a.Body)
	}
	if a, err := rig.Do("GET", "http://"+e.Ops+"/healthz"); err != nil || a.Status != 200 {
		t.Errorf("healthz: %d %v", a.Status, err)
	}
	// It is ready all the same: a balancer that took every key manager away would
	// take away what they can still answer. But it says what is wrong.
	rig.Eventually(t, "told", func() error {
		if a, err := rig.Do("GET", "http://"+e.Ops+"/readyz"); err != nil || a.Status != 200 || !strings.Contains(a.Body, "\ndatabase: ") {
			return fmt.Errorf("%d %q %w", a.Status, a.Body, err)
		}
		return nil
	})

	link.Heal()
	rig.Eventually(t, "ready again", func() error { return ready(e.Rig) })
	rig.Eventually(t, "a token is issued again", func() error {
		a := e.keys["buyer/PRODUCTION"].Post(t, "http://"+e.Gateway+"/oauth2/token", url.Values{"grant_type": {"client_credentials"}})
		if a.Status != 200 {
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
	e.warm(t, bearer(hot))
	e.warm(t, bearer(unknown))
	e.allowed(t, "uncached, after", strict)
	invalid.check(t, "unissued", e.items(t, bearer(unissued(t, e.Rig)))())
}

// startedAgain: after a stop and after a crash tokens, keys and identities are
// the same, and what was revoked is.
func (e *effects) startedAgain(t *testing.T) {
	live, revoked, key := e.token(t, "buyer"), e.token(t, "buyer"), e.apiKey(t, "buyer", nil)
	gone := e.apiKey(t, "buyer", nil)
	e.warm(t, bearer(live))
	e.warm(t, bearer(revoked))
	e.warm(t, "apikey: "+gone.Key)
	e.revoke(t, "buyer/PRODUCTION", revoked)
	e.delete(t, "/applications/buyer/api-keys/"+gone.ID)
	look := func() (seen, facts map[string]string) {
		seen, facts = map[string]string{}, map[string]string{}
		for name, line := range map[string]string{"token ": bearer(live), "key ": "apikey: " + key.Key} {
			for _, f := range e.allowed(t, name, e.items(t, line)).Headers {
				if strings.HasPrefix(f.Name, "x-tollgate-") {
					seen[name+f.Name] = f.Value
				}
			}
		}
		a := e.keys["buyer/PRODUCTION"].Post(t, "http://"+e.Gateway+"/oauth2/introspect", url.Values{"token": {live}})
		var all map[string]any
		if err := json.Unmarshal([]byte(a.Body), &all); err != nil || all["active"] != true {
			t.Errorf("introspection: %s", a.Body)
		}
		for name, v := range all {
			facts[name] = fmt.Sprint(v)
		}
		return seen, facts
	}
	seen, facts := look()
	if len(seen) < 14 {
		t.Errorf("the back end saw %v", seen)
	}
	for _, end := range []string{"stop", "kill"} {
		if end == "stop" {
			e.process.Stop()
		} else {
			e.process.Kill()
		}
		e.start()
		nowSeen, nowFacts := look()
		if diff := cmp.Diff(seen, nowSeen) + cmp.Diff(facts, nowFacts); diff != "" {
			t.Errorf("after %s (-before +after):\n%s", end, diff)
		}
		invalid.check(t, "revoked, after "+end, e.items(t, bearer(revoked))())
		want := invalid
		want.challenge = challengeKey
		want.check(t, "API key revoked, after "+end, e.items(t, "apikey: "+gone.Key)())
		before := maps.Clone(e.keys)
		e.apply(t, effectWorld)
		if diff := cmp.Diff(before, e.keys); diff != "" {
			t.Errorf("after %s another credential was made: %s", end, diff)
		}
		e.warm(t, bearer(e.token(t, "buyer")))
	}
}
