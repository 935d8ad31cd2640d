package validator_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
	"tollgate/keymanager/validator"
)

var now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// memory is the part of a store that the validator reads.
type memory struct {
	tokens, apiKeys map[keymanager.Digest]store.Facts
	head            keymanager.Position
	err             error
	reads           int
	api             keymanager.APIID
}

func (m *memory) read(from map[keymanager.Digest]store.Facts, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error) {
	m.reads++
	m.head.Seq++
	m.api = api
	if m.err != nil {
		return nil, keymanager.Position{}, m.err
	}
	facts, ok := from[d]
	if !ok {
		return nil, m.head, nil
	}
	facts.Head = m.head
	return &facts, m.head, nil
}

func (m *memory) TokenFacts(_ context.Context, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error) {
	return m.read(m.tokens, d, api)
}

func (m *memory) APIKeyFacts(_ context.Context, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error) {
	return m.read(m.apiKeys, d, api)
}

type rig struct {
	store     *memory
	validator keymanager.Validator
	minter    *token.Minter
	tags      *token.TagKeys
	old       *token.Peppers // as before the rotation
	peppers   *token.Peppers
}

func newRig(t *testing.T) *rig {
	t.Helper()
	must := func(file []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	tags, err := token.ParseTagKeys(must(token.NewTagKeys(rand.Reader)))
	if err != nil {
		t.Fatal(err)
	}
	file := must(token.NewPeppers(rand.Reader))
	old, err := token.ParsePeppers(file)
	if err != nil {
		t.Fatal(err)
	}
	peppers, err := token.ParsePeppers(must(token.RotatePeppers(file, rand.Reader)))
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{tokens: map[keymanager.Digest]store.Facts{}, apiKeys: map[keymanager.Digest]store.Facts{},
		head: keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 41}}
	v, err := validator.New(validator.Options{Store: m, Tags: tags, Peppers: peppers,
		Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{store: m, validator: v, minter: token.NewMinter(tags, rand.Reader), tags: tags, old: old, peppers: peppers}
}

func liveFacts() store.Facts {
	return store.Facts{
		TokenID:           keymanager.TokenID{7},
		IssuedAt:          now.Add(-time.Minute),
		ExpiresAt:         now.Add(time.Hour),
		ApplicationStatus: keymanager.ApplicationApproved,
		OwnerStatus:       keymanager.UserActive,
		UserStatus:        keymanager.UserActive,
		Grant: keymanager.Grant{
			Organization: "acme",
			Application:  keymanager.GrantApplication{ID: "app", Name: "shop", Tier: "Gold"},
			ConsumerKey:  "ck", KeyType: keymanager.Sandbox, User: "PRIMARY/alice",
			Scopes:       []keymanager.Scope{"read"},
			Subscription: &keymanager.GrantSubscription{ID: "s", State: keymanager.Blocked, Tier: "Gold"},
		},
	}
}

func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*store.Facts)
		want   keymanager.Reason
	}{
		{"live", func(*store.Facts) {}, keymanager.ReasonActive},
		{"never expires", func(f *store.Facts) { f.ExpiresAt = time.Time{} }, keymanager.ReasonActive},
		{"not subscribed", func(f *store.Facts) { f.Grant.Subscription = nil }, keymanager.ReasonActive},
		{"expired now", func(f *store.Facts) { f.ExpiresAt = now }, keymanager.ReasonExpired},
		{"revoked", func(f *store.Facts) { f.RevokedAt = now }, keymanager.ReasonRevoked},
		{"application rejected", func(f *store.Facts) { f.ApplicationStatus = keymanager.ApplicationRejected }, keymanager.ReasonApplicationInactive},
		{"application state missing", func(f *store.Facts) { f.ApplicationStatus = "" }, keymanager.ReasonApplicationInactive},
		{"owner disabled", func(f *store.Facts) { f.OwnerStatus = keymanager.UserDisabled }, keymanager.ReasonUserInactive},
		{"user disabled", func(f *store.Facts) { f.UserStatus = keymanager.UserDisabled }, keymanager.ReasonUserInactive},
		{"user state missing", func(f *store.Facts) { f.UserStatus = "" }, keymanager.ReasonUserInactive},
	} {
		for _, kind := range []keymanager.CredentialKind{keymanager.AccessToken, keymanager.APIKeyCredential} {
			for _, pepper := range []string{"current", "previous"} {
				t.Run(tt.name+"/"+kindName(kind)+"/"+pepper+" pepper", func(t *testing.T) {
					r := newRig(t)
					facts := liveFacts()
					tt.change(&facts)
					value := r.issue(t, kind, pepper, facts)

					got, err := r.validator.Validate(context.Background(), keymanager.Query{
						Credential: keymanager.Credential{Kind: kind, Value: value}, API: "pets",
					})
					if err != nil {
						t.Fatal(err)
					}
					want := &keymanager.Verdict{Reason: tt.want, Kind: kind, TokenID: facts.TokenID,
						IssuedAt: facts.IssuedAt, ExpiresAt: facts.ExpiresAt, Head: r.store.head, Grant: &facts.Grant}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("verdict (-want +got):\n%s", diff)
					}
					if r.store.api != "pets" {
						t.Errorf("the store was asked about API %q", r.store.api)
					}
				})
			}
		}
	}
}

func kindName(k keymanager.CredentialKind) string {
	if k == keymanager.APIKeyCredential {
		return "API key"
	}
	return "access token"
}

// issue stores facts under a new credential.
func (r *rig) issue(t *testing.T, kind keymanager.CredentialKind, pepper string, facts store.Facts) string {
	t.Helper()
	mint, into := r.minter.AccessToken, r.store.tokens
	if kind == keymanager.APIKeyCredential {
		mint, into = r.minter.APIKey, r.store.apiKeys
	}
	value, err := mint()
	if err != nil {
		t.Fatal(err)
	}
	peppers := r.peppers
	if pepper == "previous" {
		peppers = r.old
	}
	into[peppers.Digest(value)] = facts
	return value
}

// another returns a character of base64url that is not c.
func another(c byte) string {
	if c == 'x' {
		return "y"
	}
	return "x"
}

func TestForgedCredentialsNeverReachTheStore(t *testing.T) {
	r := newRig(t)
	value := r.issue(t, keymanager.AccessToken, "current", liveFacts())
	other := newRig(t)
	for name, c := range map[string]keymanager.Credential{
		"none":                   {},
		"no kind":                {Value: value},
		"an access token as key": {Kind: keymanager.APIKeyCredential, Value: value},
		"unknown kind":           {Kind: 99, Value: value},
		"empty":                  {Kind: keymanager.AccessToken},
		"changed":                {Kind: keymanager.AccessToken, Value: value[:20] + another(value[20]) + value[21:]},
		"another key manager's":  {Kind: keymanager.AccessToken, Value: other.issue(t, keymanager.AccessToken, "current", liveFacts())},
		"64 KiB":                 {Kind: keymanager.AccessToken, Value: strings.Repeat("a", 64<<10)},
	} {
		got, err := r.validator.Validate(context.Background(), keymanager.Query{Credential: c, API: "pets"})
		if err != nil || got.Reason != keymanager.ReasonNoSuchCredential || got.Grant != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if r.store.reads != 0 {
		t.Errorf("%d reads of the store", r.store.reads)
	}
}

func TestUnknownCredential(t *testing.T) {
	r := newRig(t)
	value, err := r.minter.AccessToken()
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.validator.Validate(context.Background(), keymanager.Query{
		Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value}, API: "pets"})
	if err != nil {
		t.Fatal(err)
	}
	// The head is that of the first of two looks.
	want := &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential, Kind: keymanager.AccessToken,
		Head: keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 42}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	if r.store.reads != 2 {
		t.Errorf("%d reads, want one for each pepper", r.store.reads)
	}
}

func TestStorageErrorIsNoVerdict(t *testing.T) {
	r := newRig(t)
	value := r.issue(t, keymanager.AccessToken, "current", liveFacts())
	r.store.err = keymanager.Errorf(keymanager.KindUnavailable, "the database is away")
	got, err := r.validator.Validate(context.Background(), keymanager.Query{
		Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value}})
	if got != nil || keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("verdict %+v, error %v", got, err)
	}
	r.store.err = errors.New("anything else")
	if got, err := r.validator.Validate(context.Background(), keymanager.Query{
		Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value}}); got != nil || err == nil {
		t.Errorf("verdict %+v, error %v", got, err)
	}
	if err != nil && strings.Contains(err.Error(), value) {
		t.Error("the error shows the token")
	}
}

func TestOptionsAreRequired(t *testing.T) {
	if v, err := validator.New(validator.Options{}); v != nil || err == nil {
		t.Errorf("New without options: %v, %v", v, err)
	}
}
