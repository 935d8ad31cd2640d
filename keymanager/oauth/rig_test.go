package oauth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
	"tollgate/keymanager/token"
	"tollgate/keymanager/token/tokentest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is the real handler over a real SQLite store, with a little world in it.
type rig struct {
	t       testing.TB
	dir     string // of the store
	clock   *clock
	store   *spy
	tags    *token.TagKeys
	peppers *token.Peppers
	minter  *token.Minter
	server  *httptest.Server
	log     *safeBuffer
	failing storetest.Failing // has statements of the store fail
	// client is at home in organization acme and subscribed to two APIs.
	client credentials
}

// credentials are a client's.
type credentials struct{ id, secret string }

const addressHeader = "X-Test-Address"

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const issuer = "https://login.example.com"

func newRig(t testing.TB, change ...func(*oauth.Options)) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{t: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)}, log: &safeBuffer{}, dir: t.TempDir()}
	db, err := sqlstore.OpenSQLite(context.Background(), filepath.Join(r.dir, "tollgate.db"), sqlstore.Options{Now: r.clock.Now, Wrap: r.failing.Wrap})
	r.ok(err)
	r.store = &spy{Store: db, calls: map[string]int{}, fail: map[string]error{}}
	t.Cleanup(func() { r.ok(db.Close()) })

	keys := tokentest.New(t)
	r.tags, r.peppers, r.minter = keys.Tags, keys.Peppers, keys.Minter

	o := oauth.Options{
		Store: r.store, Minter: r.minter, Tags: r.tags, Peppers: r.peppers, Issuer: issuer, Now: r.clock.Now,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		ClientAddress: func(req *http.Request) netip.Addr {
			a, _ := netip.ParseAddr(req.Header.Get(addressHeader))
			return a
		},
	}
	for _, c := range change {
		c(&o)
	}
	s, err := oauth.New(o)
	r.ok(err)
	r.server = httptest.NewServer(s.Handler())
	t.Cleanup(r.server.Close)
	r.populate()
	return r
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) populate() {
	ctx := context.Background()
	r.organization("acme")
	for _, api := range []struct {
		name   string
		scopes []keymanager.Scope
	}{
		{"orders", []keymanager.Scope{"orders:read"}},
		{"pets", []keymanager.Scope{"pets:write", "pets:read"}},
		{"vault", []keymanager.Scope{"vault:open"}}, // nobody subscribes
	} {
		a := &keymanager.API{ID: keymanager.APIID(api.name), Organization: "acme", Name: api.name, Context: "/" + api.name, Version: "1.0.0",
			Protocol: keymanager.HTTP1, Production: []string{"http://127.0.0.1:1"}, State: keymanager.StatePublished, Tiers: []keymanager.TierName{"Gold"},
			Resources: []keymanager.Resource{{Method: "GET", Path: "/*", AuthType: keymanager.AuthAny, Scopes: api.scopes, Tier: keymanager.Unlimited}}}
		r.ok(r.store.CreateAPI(ctx, a))
	}
	r.client = r.application("shop", nil)
	r.subscribe("shop", "pets")
	r.subscribe("shop", "orders")
}

func (r *rig) organization(org keymanager.OrganizationID) {
	ctx := context.Background()
	r.ok(r.store.CreateOrganization(ctx, &keymanager.Organization{ID: org}))
	_, tiers, err := r.store.Tiers(ctx, org, store.Page{})
	r.ok(err)
	if tiers == 0 {
		for _, tier := range keymanager.DefaultTiers(org) {
			r.ok(r.store.CreateTier(ctx, &tier))
		}
	}
	r.ok(r.store.CreateUser(ctx, &keymanager.User{ID: "alice-" + keymanager.UserID(org), Organization: org, Name: "alice",
		UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}))
}

// application makes an application of alice's with a PRODUCTION key.
func (r *rig) application(name string, change func(*keymanager.Application)) credentials {
	r.t.Helper()
	a := &keymanager.Application{ID: keymanager.ApplicationID(name), Organization: "acme", Name: name, Owner: "alice-acme",
		Tier: "Gold", TokenType: keymanager.OpaqueToken, Status: keymanager.ApplicationApproved}
	if change != nil {
		change(a)
	}
	r.ok(r.store.CreateApplication(context.Background(), a))
	return r.newClient(name, func(*keymanager.Client) {})
}

func (r *rig) newClient(app string, change func(*keymanager.Client)) credentials {
	r.t.Helper()
	c := &keymanager.Client{ConsumerKey: keymanager.ConsumerKey("ck-" + app), ApplicationID: keymanager.ApplicationID(app),
		KeyType: keymanager.Production, GrantTypes: []string{keymanager.GrantClientCredentials}}
	change(c)
	r.ok(r.store.CreateClient(context.Background(), c))
	secret, err := r.minter.ClientSecret()
	r.ok(err)
	r.secret(c.ConsumerKey, secret, time.Time{})
	return credentials{string(c.ConsumerKey), secret}
}

// secret gives a client another secret.
func (r *rig) secret(k keymanager.ConsumerKey, value string, expires time.Time) {
	r.t.Helper()
	id, err := r.minter.TokenID()
	r.ok(err)
	r.ok(r.store.CreateSecret(context.Background(), &keymanager.ClientSecret{ID: keymanager.SecretID(id.String()), ConsumerKey: k,
		Digest: r.peppers.Digest(value), Last4: "last", ExpiresAt: expires}))
}

func (r *rig) subscribe(app, api string) {
	r.t.Helper()
	r.ok(r.store.CreateSubscription(context.Background(), &keymanager.Subscription{
		ID: keymanager.SubscriptionID(app + "-" + api), Name: app + "-" + api, Organization: "acme", ApplicationID: keymanager.ApplicationID(app),
		APIID: keymanager.APIID(api), Tier: "Gold", State: keymanager.Unblocked}))
}

// request is one request; its zero values are those of a good one.
type request struct {
	method      string // POST
	path        string // of the token endpoint
	query       string
	contentType *string // application/x-www-form-urlencoded
	auth        []string
	body        string
	host        string
	header      http.Header
	from        string // address
}

type reply struct {
	status int
	header http.Header
	body   string
}

// member returns a member of the JSON body, nil if there is none.
func (r reply) member(name string) any {
	var m map[string]any
	if json.Unmarshal([]byte(r.body), &m) != nil {
		return nil
	}
	return m[name]
}

func (r reply) text(name string) string {
	s, _ := r.member(name).(string)
	return s
}

func (c credentials) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.id)+":"+url.QueryEscape(c.secret)))
}

func (r *rig) do(req request) reply {
	r.t.Helper()
	got, err := r.try(req)
	r.ok(err)
	r.checkAnswer(got)
	return got
}

func (r *rig) try(req request) (reply, error) {
	method, path := req.method, req.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = oauth.PathToken
	}
	if req.query != "" {
		path += "?" + req.query
	}
	h, err := http.NewRequestWithContext(context.Background(), method, r.server.URL+path, strings.NewReader(req.body))
	if err != nil {
		return reply{}, err
	}
	for name, values := range req.header {
		h.Header[name] = values
	}
	h.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if req.contentType != nil {
		h.Header.Set("Content-Type", *req.contentType)
		if *req.contentType == "" {
			h.Header.Del("Content-Type")
		}
	}
	for _, a := range req.auth {
		h.Header.Add("Authorization", a)
	}
	if req.from != "" {
		h.Header.Set(addressHeader, req.from)
	}
	if req.host != "" {
		h.Host = req.host
	}
	resp, err := r.server.Client().Do(h)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body)}, err
}

// checkAnswer checks what holds of every answer.
func (r *rig) checkAnswer(got reply) {
	r.t.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
		if got.header.Get(name) != want {
			r.t.Errorf("%d: %s is %q, want %q", got.status, name, got.header.Get(name), want)
		}
	}
	if got.status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") == "" {
		r.t.Error("401 without WWW-Authenticate")
	}
	if got.status >= 400 {
		if got.text("error") == "" && got.body != "" {
			r.t.Errorf("%d without error: %s", got.status, got.body)
		}
		for _, c := range got.text("error") + got.text("error_description") {
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				r.t.Errorf("%d: error with the character %q: %s", got.status, c, got.body)
			}
		}
	}
	for _, secret := range []string{r.client.secret, "canary"} {
		if secret != "" && strings.Contains(got.body, secret) {
			r.t.Errorf("the answer repeats what was sent: %s", got.body)
		}
		if secret != "" && strings.Contains(r.log.String(), secret) {
			r.t.Errorf("the log has a secret: %s", r.log.String())
		}
	}
}

const ccBody = "grant_type=client_credentials"

// issue gets a token for a client.
func (r *rig) issue(c credentials, scope string) string {
	r.t.Helper()
	got := r.do(request{auth: []string{c.basic()}, body: ccBody + "&scope=" + url.QueryEscape(scope)})
	if got.status != http.StatusOK {
		r.t.Fatalf("no token: %d %s", got.status, got.body)
	}
	return got.text("access_token")
}

// stored returns what the store has under a token.
func (r *rig) stored(value string) *keymanager.Token {
	r.t.Helper()
	t, err := r.store.Store.TokenByDigest(context.Background(), r.peppers.Digest(value))
	if keymanager.IsNotFound(err) {
		return nil
	}
	r.ok(err)
	return t
}

func (r *rig) head() keymanager.Position {
	r.t.Helper()
	head, err := r.store.Head(context.Background())
	r.ok(err)
	return head
}
