//go:build !short

package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the database while it is in use

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/keymanager/oauth/oauthtest"
	tokens "tollgate/keymanager/token"
)

// What the OAuth endpoints promise, at the key manager and through Envoy.
func TestOAuthStatements(t *testing.T) {
	r, p := dev(t)
	world := oauthWorld(t, r)
	key := oauthtest.Site{URL: "http://" + r.KeyManager, Do: from(1)}
	gateway := oauthtest.Site{URL: "http://" + r.Gateway, Do: from(2), Gateway: true}
	var slow sync.WaitGroup
	for _, address := range []string{r.KeyManager, r.Gateway} {
		slow.Go(func() { slowBody(t, address, world.Shop) })
	}
	_, issuer, ok := strings.Cut(p.Stdout(), "token endpoint")
	issuer, _, found := strings.Cut(strings.TrimSpace(issuer), "/oauth2/token")
	if !ok || !found {
		t.Fatalf("no token endpoint in %s", p.Stdout())
	}
	for name, s := range map[string]oauthtest.Site{"direct": key, "through Envoy": gateway} {
		s.World, s.Issuer, s.Log = world, issuer, r.AllLogs
		s.Changes = func(t testing.TB) string { return changes(t, r) }
		t.Run(name, func(t *testing.T) { oauthtest.Check(t, s) })
	}
	slow.Wait()

	// Envoy writes the last of its log when it ends.
	p.Stop()
	secrets := []string{"canary", world.Shop.Secret, world.Second.Secret, world.APIKey, world.Unissued}
	for why, value := range world.Dead {
		secrets = append(secrets, value)
		if len(value) < 40 {
			t.Errorf("the token that is %s: %q", why, value)
		}
	}
	files, err := filepath.Glob(filepath.Join(r.State, "tollgate.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no database: %v", err)
	}
	read := map[string]string{"the logs": r.AllLogs()}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		read[f] = string(data)
	}
	for i, s := range secrets {
		for where, content := range read {
			if strings.Contains(content, s) {
				t.Errorf("secret %d is in %s", i, where)
			}
		}
	}
	if !strings.Contains(read["the logs"], `"path":"/oauth2/token"`) {
		t.Error("Envoy's log has not been read")
	}
}

// from returns a client for a Site: addresses are those of one block of the
// loopback network.
func from(block byte) func(int, *http.Request) (*http.Response, error) {
	return func(n int, req *http.Request) (*http.Response, error) {
		local := netip.AddrFrom4([4]byte{127, block, byte(n >> 8), byte(n)})
		dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
		client := &http.Client{
			Timeout:       rig.Patience,
			Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		return client.Do(req)
	}
}

// changes reads from the database how much was written so far.
func changes(t testing.TB, r *rig.Rig) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(r.State, "tollgate.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var tokens, head, audit int
	row := db.QueryRowContext(context.Background(),
		"SELECT (SELECT count(*) FROM access_token_primary), (SELECT seq FROM log_head), (SELECT count(*) FROM audit)")
	if err := row.Scan(&tokens, &head, &audit); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d tokens, log at %d, %d audit rows", tokens, head, audit)
}

// unissued is a token that carries the tag of this key manager, as one does
// that was lost before it was stored.
func unissued(t *testing.T, r *rig.Rig) string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(r.State, "tag.key"))
	if err != nil {
		t.Fatal(err)
	}
	tags, err := tokens.ParseTagKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	value, err := tokens.NewMinter(tags, rand.Reader).AccessToken()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// slowBody sends a token request whose body does not end: it is cut off.
func slowBody(t *testing.T, address string, c oauthtest.Client) {
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(rig.Patience))
	body := "grant_type=client_credentials&client_id=" + c.ID + "&client_secret=" + c.Secret + "&x="
	fmt.Fprintf(conn, "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: 10000\r\n\r\n%s", body)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a byte now and then
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		t.Errorf("%s: a slow body is waited for", address)
	case err == nil:
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestTimeout && res.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("%s: %d for a slow body", address, res.StatusCode)
		}
	}
}

// oauthWorld makes everybody that the statements speak of.
func oauthWorld(t *testing.T, r *rig.Rig) oauthtest.World {
	t.Helper()
	a := r.Admin(t)
	var m strings.Builder
	document := func(kind, org, name, spec string) {
		fmt.Fprintf(&m, "---\nkind: %s\norganization: %s\nname: %s\nspec: %s\n", kind, org, name, spec)
	}
	application := func(name, spec string) {
		document("Application", "acme", name, "{owner: alice, "+spec+"}")
		document("Key", "acme", name+"/PRODUCTION", "{}")
	}
	document("Organization", "acme", "acme", "{}")
	document("Organization", "rival", "rival", "{}")
	for _, name := range []string{"alice", "bob", "carol"} {
		document("User", "acme", name, "{}")
	}
	document("User", "rival", "alice", "{}")
	for name, scopes := range map[string]string{"pets": "pets:write, pets:read", "orders": "orders:read", "vault": "vault:open"} {
		document("API", "acme", name, fmt.Sprintf(`{version: 3.0.0, context: /acme-%s, state: PUBLISHED, production: ["http://%s/"],
  resources: [{method: GET, path: /*, scopes: ["%s"]}]}`, name, r.Production, strings.ReplaceAll(scopes, ", ", `", "`)))
	}
	application("shop", "")
	document("Key", "acme", "shop/SANDBOX", "{}")
	application("watcher", `scopes: ["tollgate:introspect"]`)
	application("other", `scopes: ["tollgate:admin"]`)
	document("Application", "rival", "stranger", `{owner: alice, scopes: ["tollgate:introspect"]}`)
	document("Key", "rival", "stranger/PRODUCTION", "{}")
	for name, method := range map[string]string{"basic-only": "basic", "post-only": "post"} {
		document("Application", "acme", name, "{owner: alice}")
		document("Key", "acme", name+"/PRODUCTION", "{authMethod: client_secret_"+method+"}")
	}
	application("rejected", "status: REJECTED")
	application("created", "status: CREATED")
	application("orphan", "owner: bob")
	for _, app := range []string{"shop", "watcher"} {
		for _, api := range []string{"pets", "orders"} {
			document("Subscription", "acme", app+"-"+api, "{application: "+app+", api: "+api+"/3.0.0}")
		}
	}
	for _, why := range []string{"rejected", "no-key", "no-app", "no-owner", "expired"} {
		document("Application", "acme", "dead-"+why, "{owner: carol}")
		life := "{}"
		if why == "expired" {
			life = "{tokenLifetime: 1s}"
		}
		document("Key", "acme", "dead-"+why+"/PRODUCTION", life)
	}
	keys := a.Apply(t, strings.ReplaceAll(m.String(), "{owner: alice, owner:", "{owner:"))
	key := func(name string) oauthtest.Client { return oauthtest.Client(keys[name+"/PRODUCTION"]) }

	w := oauthtest.World{
		Shop: key("shop"), Sandbox: oauthtest.Client(keys["shop/SANDBOX"]), Watcher: key("watcher"), Other: key("other"),
		Stranger: key("stranger"), BasicOnly: key("basic-only"), PostOnly: key("post-only"), Rejected: key("rejected"),
		Created: key("created"), Orphan: key("orphan"), Dead: map[string]string{},
	}
	secrets := "/organizations/acme/applications/shop/keys/" + w.Shop.ID + "/secrets"
	more := func(life time.Duration) (c oauthtest.Client) {
		var issued struct{ ClientSecret string }
		a.Must(t, "POST", secrets, map[string]string{"expiresAt": time.Now().Add(life).UTC().Format(time.RFC3339Nano)}, &issued)
		return oauthtest.Client{ID: w.Shop.ID, Secret: issued.ClientSecret}
	}
	w.Expired, w.Second = more(500*time.Millisecond), more(time.Hour)

	shop := rig.Client(w.Shop)
	w.Unissued = unissued(t, r)
	var apiKey struct{ Key string }
	a.Must(t, "POST", "/organizations/acme/applications/shop/api-keys", map[string]string{"name": "till", "keyType": "PRODUCTION"}, &apiKey)
	w.APIKey = apiKey.Key

	w.Dead["revoked"] = r.Issue(t, shop)
	if got := shop.Post(t, "http://"+r.KeyManager+"/oauth2/revoke", map[string][]string{"token": {w.Dead["revoked"]}}); got.Status != 200 {
		t.Fatalf("revoke: %d", got.Status)
	}
	for _, why := range []string{"rejected", "no-key", "no-app", "expired", "no-owner"} {
		w.Dead[why] = r.Issue(t, rig.Client(key("dead-"+why)))
	}
	const apps = "/organizations/acme/applications/dead-"
	a.Must(t, "PUT", apps+"rejected", map[string]string{"owner": "carol", "status": "REJECTED"}, nil)
	a.Must(t, "DELETE", apps+"no-key/keys/"+key("dead-no-key").ID, nil, nil)
	a.Must(t, "DELETE", apps+"no-app", nil, nil)
	for user, status := range map[string]string{"bob": "DISABLED", "carol": "DISABLED"} {
		a.Must(t, "PUT", "/organizations/acme/users/PRIMARY/"+user, map[string]string{"status": status}, nil)
	}
	rig.Eventually(t, "the short-lived secret and token expire", func() error {
		got := rig.Client(w.Expired).Post(t, "http://"+r.KeyManager+"/oauth2/introspect", map[string][]string{"token": {"x"}})
		if got.Status != 401 {
			return fmt.Errorf("%d", got.Status)
		}
		watcher := rig.Client(w.Watcher).Post(t, "http://"+r.KeyManager+"/oauth2/introspect", map[string][]string{"token": {w.Dead["expired"]}})
		if strings.Contains(watcher.Body, "true") {
			return errors.New(watcher.Body)
		}
		return nil
	})
	return w
}
