package admin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/token"
	"tollgate/keymanager/token/tokentest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the management API over a SQLite file, after the first start.
type world struct {
	t       *testing.T
	store   store.Store
	peppers *token.Peppers
	minter  *token.Minter
	handler http.Handler
	now     time.Time
	callers map[string]admin.Caller // by access token
	options admin.Options
}

// The access tokens of the callers that every world knows.
const (
	system     = "system"     // the built-in administrator
	orgAdmin   = "admin"      // of the organization default
	publisher  = "publisher"  // of default
	subscriber = "subscriber" // of default
	stranger   = "stranger"   // every scope, of the organization other
	nobody     = "nobody"     // no scope, of default
)

// openStore opens an empty store; the tests on Postgres replace it.
var openStore = func(t *testing.T) (store.Store, error) {
	return sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlstore.Options{})
}

func newWorld(t *testing.T, change ...func(*admin.Options)) *world {
	t.Helper()
	st, err := openStore(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, store: st, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	keys := tokentest.New(t)
	w.peppers, w.minter = keys.Peppers, keys.Minter
	cred, err := admin.NewAdminCredential(t.Context(), st, w.minter, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Bootstrap(t.Context(), w.bootstrap(cred)); err != nil {
		t.Fatal(err)
	}
	every := keymanager.ManagementScopes()
	w.callers = map[string]admin.Caller{
		system:     {ConsumerKey: cred.ConsumerKey, Organization: admin.SystemOrganization, Scopes: every},
		orgAdmin:   {ConsumerKey: "ck-admin", Organization: "default", Scopes: []keymanager.Scope{keymanager.ScopeAdmin}},
		publisher:  {ConsumerKey: "ck-publisher", Organization: "default", Scopes: []keymanager.Scope{keymanager.ScopePublish}},
		subscriber: {ConsumerKey: "ck-subscriber", Organization: "default", Scopes: []keymanager.Scope{keymanager.ScopeSubscribe}},
		stranger:   {ConsumerKey: "ck-stranger", Organization: "other", Scopes: every},
		nobody:     {ConsumerKey: "ck-nobody", Organization: "default", Scopes: []keymanager.Scope{keymanager.ScopeIntrospect, "read"}},
	}
	w.options = admin.Options{
		Store: st, Minter: w.minter, Peppers: w.peppers, Authenticator: w, Now: func() time.Time { return w.now },
	}
	for _, c := range change {
		c(&w.options)
	}
	if w.handler, err = admin.New(w.options); err != nil {
		t.Fatal(err)
	}
	w.put(system, "/organizations/other", `{}`)
	return w
}

// in returns the same world for a subtest.
func (w *world) in(t *testing.T) *world {
	same := *w
	same.t = t
	return &same
}

func (w *world) bootstrap(c admin.Credential) admin.BootstrapOptions {
	return admin.BootstrapOptions{Store: w.store, Peppers: w.peppers, Now: func() time.Time { return w.now }, Credential: c}
}

// Authenticate implements admin.Authenticator.
func (w *world) Authenticate(r *http.Request) (admin.Caller, error) {
	value, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return admin.Caller{}, admin.ErrNoCredential
	}
	if value == "outage" {
		return admin.Caller{}, keymanager.Errorf(keymanager.KindUnavailable, "the database at 10.0.0.1 is away")
	}
	c, ok := w.callers[value]
	if !ok {
		return admin.Caller{}, admin.ErrInvalidToken
	}
	return c, nil
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	tree   any // the body, if it is JSON
}

// at returns a value of the body: names and indices joined by slashes.
func (a answer) at(path string) any {
	v := a.tree
	for _, p := range strings.Split(path, "/") {
		switch c := v.(type) {
		case map[string]any:
			v = c[p]
		case []any:
			i := int(p[0] - '0')
			if i >= len(c) {
				return nil
			}
			v = c[i]
		default:
			return nil
		}
	}
	return v
}

func (a answer) text(path string) string {
	s, _ := a.at(path).(string)
	return s
}

// do sends a request to a path below the prefix. Headers come as pairs.
func (w *world) do(caller, method, path, body string, headers ...string) answer {
	w.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	if !strings.HasPrefix(path, "/api/") {
		path = admin.Prefix + path
	}
	req := httptest.NewRequestWithContext(context.WithoutCancel(w.t.Context()), method, path, r)
	if caller != "" {
		req.Header.Set("Authorization", "Bearer "+caller)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	a := answer{status: rec.Code, header: rec.Result().Header, body: rec.Body.Bytes()}
	if strings.Contains(a.header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(a.body, &a.tree); err != nil {
			w.t.Fatalf("%s %s: body is not JSON: %v\n%s", method, path, err, a.body)
		}
	}
	return a
}

// want sends a request and insists on a status.
func (w *world) want(status int, caller, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.do(caller, method, path, body, headers...)
	if a.status != status {
		w.t.Fatalf("%s %s %s: %d, want %d\n%s", method, path, body, a.status, status, a.body)
	}
	return a
}

// put insists on a success.
func (w *world) put(caller, path, body string) answer {
	w.t.Helper()
	a := w.do(caller, http.MethodPut, path, body)
	if a.status != 200 && a.status != 201 {
		w.t.Fatalf("PUT %s %s: %d\n%s", path, body, a.status, a.body)
	}
	return a
}

const (
	inDefault = "/organizations/default"
	pets      = inDefault + "/apis/pets/1.0.0"
	shop      = inDefault + "/applications/shop"
	petsSpec  = `{"context":"/pets","production":["http://127.0.0.1:9001"],"sandbox":["http://127.0.0.1:9002"],
		"resources":[{"method":"GET","path":"/pets/{id}","scopes":["pets:read"]},{"method":"*","path":"/*"}],
		"tiers":["Gold","Silver"],"state":"PUBLISHED"}`
)

// furnish makes an API, an application and a subscription.
func (w *world) furnish() {
	w.t.Helper()
	w.put(system, inDefault+"/users/PRIMARY/alice", `{"email":"alice@example.com"}`)
	w.put(system, pets, petsSpec)
	w.put(system, shop, `{"owner":"alice"}`)
	w.put(system, inDefault+"/subscriptions/shop-pets", `{"application":"shop","api":"pets/1.0.0","tier":"Gold"}`)
}

// dump is everything that management writes, as text.
func (w *world) dump() string {
	w.t.Helper()
	var b bytes.Buffer
	add := func(v any, _ int, err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
		if err := json.NewEncoder(&b).Encode(v); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, all := context.WithoutCancel(w.t.Context()), store.Page{Limit: store.MaxLimit}
	orgs, _, err := w.store.Organizations(ctx, all)
	add(orgs, 0, err)
	for _, o := range orgs {
		users, n, err := w.store.Users(ctx, o.ID, all)
		add(users, n, err)
		tiers, n, err := w.store.Tiers(ctx, o.ID, all)
		add(tiers, n, err)
		apis, n, err := w.store.APIs(ctx, o.ID, all)
		add(apis, n, err)
		subs, n, err := w.store.Subscriptions(ctx, o.ID, store.SubscriptionFilter{}, all)
		add(subs, n, err)
		apps, n, err := w.store.Applications(ctx, o.ID, all)
		add(apps, n, err)
		for _, a := range apps {
			keys, n, err := w.store.APIKeys(ctx, a.ID, all)
			add(keys, n, err)
			clients, err := w.store.Clients(ctx, a.ID)
			add(clients, 0, err)
			for _, c := range clients {
				secrets, err := w.store.Secrets(ctx, c.ConsumerKey)
				add(secrets, 0, err)
			}
		}
	}
	audit, n, err := w.store.AuditEntries(ctx, "", all)
	add(audit, n, err)
	head, err := w.store.Head(ctx)
	add(head, 0, err)
	return b.String()
}
