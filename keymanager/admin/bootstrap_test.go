package admin_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token/tokentest"
)

func TestBootstrap(t *testing.T) {
	w := newWorld(t) // has started once
	client, err := admin.BuiltInClient(t.Context(), w.store)
	if err != nil || client == nil || client.ConsumerKey != w.callers[system].ConsumerKey {
		t.Fatalf("client %v, %v", client, err)
	}
	app := w.want(200, system, "GET", "/organizations/system/applications/administrator", "")
	equalJSON(t, "scopes", app.at("spec/scopes"), `["tollgate:admin","tollgate:publish","tollgate:subscribe","tollgate:introspect","tollgate:validate"]`)
	if tiers := w.want(200, system, "GET", inDefault+"/tiers", ""); tiers.at("total") != 5.0 {
		t.Errorf("tiers: %s", tiers.body)
	}

	secrets := func() []string {
		t.Helper()
		list, err := w.store.Secrets(t.Context(), client.ConsumerKey)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, s := range list {
			out = append(out, s.Last4)
		}
		return out
	}
	start := func(c admin.Credential) {
		t.Helper()
		if err := admin.Bootstrap(t.Context(), w.bootstrap(c)); err != nil {
			t.Fatal(err)
		}
	}
	// A lost file: another secret of the same consumer key, and again nothing.
	var last admin.Credential
	for i := range 8 {
		w.now = w.now.Add(time.Second)
		if last, err = admin.NewAdminCredential(t.Context(), w.store, w.minter, rand.Reader); err != nil {
			t.Fatal(err)
		}
		if last.ConsumerKey != client.ConsumerKey {
			t.Fatalf("consumer key %s, want %s", last.ConsumerKey, client.ConsumerKey)
		}
		start(last)
		before := w.dump()
		start(last)
		if w.dump() != before {
			t.Error("the second start has changed something")
		}
		if n := len(secrets()); n != min(i+2, admin.MaxSecrets) {
			t.Errorf("%d secrets after %d lost files", n, i+1)
		}
	}
	if list := secrets(); list[len(list)-1] != last.Secret[len(last.Secret)-4:] {
		t.Error("the last secret is not there")
	}

	// What was deleted stays deleted.
	w.want(204, system, "DELETE", inDefault+"/users/PRIMARY/admin", "")
	w.want(204, system, "DELETE", inDefault, "")
	start(last)
	w.want(404, system, "GET", inDefault, "")

	other := last
	other.ConsumerKey = "somebody-else"
	if err := admin.Bootstrap(t.Context(), w.bootstrap(other)); keymanager.KindOf(err) != keymanager.KindConflict {
		t.Errorf("a credential of another database: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v", last, last, last); strings.Contains(s, last.Secret) {
		t.Error("a credential shows its secret")
	}
}

// dying is a store whose process ends after a number of transactions.
type dying struct {
	store.Store
	left   int
	commit bool // the last one is committed, but nobody is told
}

var errKilled = errors.New("killed")

func (d *dying) InTx(ctx context.Context, fn func(store.Store) error) (keymanager.Position, error) {
	if d.left--; d.left >= 0 {
		return d.Store.InTx(ctx, fn)
	}
	if d.commit {
		if _, err := d.Store.InTx(ctx, fn); err != nil {
			return keymanager.Position{}, err
		}
	}
	return keymanager.Position{}, errKilled
}

// Whenever the first start is cut short, the next one with the same file works,
// and so do two at the same time.
func TestBootstrapInterrupted(t *testing.T) {
	for _, commit := range []bool{false, true} {
		st, err := openStore(t)
		if err != nil {
			t.Fatal(err)
		}
		keys := tokentest.New(t)
		cred, err := admin.NewAdminCredential(t.Context(), st, keys.Minter, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		o := admin.BootstrapOptions{Store: &dying{Store: st, commit: commit}, Peppers: keys.Peppers, Now: time.Now, Credential: cred}
		if err := admin.Bootstrap(t.Context(), o); !errors.Is(err, errKilled) {
			t.Fatalf("killed: %v", err)
		}
		o.Store = st
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := admin.Bootstrap(t.Context(), o); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := st.Secrets(t.Context(), cred.ConsumerKey)
		if err != nil || len(list) != 1 || !keys.Peppers.Match(list[0].Digest, cred.Secret) {
			t.Errorf("secrets: %d, %v", len(list), err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Several key managers that start on an empty database, each with a credential
// of its own, make one application with one key: the others learn that they are
// late, and have a secret of that key.
func TestBootstrapRace(t *testing.T) {
	st, err := openStore(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	keys := tokentest.New(t)
	const starters = admin.MaxSecrets
	var creds [starters]admin.Credential
	for i := range creds {
		if creds[i], err = admin.NewAdminCredential(t.Context(), st, keys.Minter, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	var late atomic.Int64
	for i := range creds {
		wg.Go(func() {
			start := func() error {
				return admin.Bootstrap(t.Context(), admin.BootstrapOptions{Store: st, Peppers: keys.Peppers, Now: time.Now, Credential: creds[i]})
			}
			err := start()
			if keymanager.KindOf(err) == keymanager.KindConflict {
				late.Add(1)
				if creds[i], err = admin.NewAdminCredential(t.Context(), st, keys.Minter, rand.Reader); err == nil {
					err = start()
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := late.Load(); n != starters-1 {
		t.Errorf("%d were late, want %d", n, starters-1)
	}
	apps, n, err := st.Applications(t.Context(), admin.SystemOrganization, store.Page{})
	if err != nil || n != 1 {
		t.Fatalf("%d applications, %v", n, err)
	}
	clients, err := st.Clients(t.Context(), apps[0].ID)
	if err != nil || len(clients) != 1 {
		t.Fatalf("%d clients, %v", len(clients), err)
	}
	secrets, err := st.Secrets(t.Context(), clients[0].ConsumerKey)
	if err != nil || len(secrets) != starters {
		t.Errorf("%d secrets, %v", len(secrets), err)
	}
	for _, c := range creds {
		if c.ConsumerKey != clients[0].ConsumerKey {
			t.Errorf("somebody has the key %q", c.ConsumerKey)
		}
	}
}

// TestAdministratorsCannotLockThemselvesOut: without its owner the built-in
// application gets no token any more, and nobody could change that back.
func TestAdministratorsCannotLockThemselvesOut(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/organizations/system/users/PRIMARY/admin", "/organizations/system/users/admin"} {
		if a := w.do(system, "PUT", path, `{"status":"DISABLED"}`); a.status != 404 && (a.status != 422 || a.text("errors/0/pointer") != "/status") {
			t.Errorf("PUT %s: %d %s", path, a.status, a.body)
		}
	}
	w.want(422, system, "POST", "/apply", `{"documents":[{"kind":"User","organization":"system","name":"admin","spec":{"status":"DISABLED"}}]}`)
	w.put(system, "/organizations/system/users/PRIMARY/admin", `{"email":"admin@example.org"}`)
	w.put(system, inDefault+"/users/PRIMARY/admin", `{"status":"DISABLED"}`)
}
