package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// validatorFunc is a keymanager.Validator.
type validatorFunc func(keymanager.Query) (*keymanager.Verdict, error)

func (f validatorFunc) Validate(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	return f(q)
}

func TestAuthenticator(t *testing.T) {
	broken := errors.New("database is away")
	live := &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, Grant: &keymanager.Grant{
		Organization: "acme", ConsumerKey: "key", Application: keymanager.GrantApplication{ID: "app"}, Scopes: []keymanager.Scope{"tollgate:admin"},
	}}
	for _, tc := range []struct {
		name    string
		headers []string
		verdict *keymanager.Verdict
		err     error
		want    error // nil = the caller
	}{
		{"live", []string{"Bearer token"}, live, nil, nil},
		{"any case of the scheme", []string{"bEARER token"}, live, nil, nil},
		{"none", nil, live, nil, admin.ErrNoCredential},
		{"two", []string{"Bearer token", "Bearer token"}, live, nil, admin.ErrInvalidToken},
		{"another scheme", []string{"Basic token"}, live, nil, admin.ErrInvalidToken},
		{"no scheme", []string{"token"}, live, nil, admin.ErrInvalidToken},
		{"not known", []string{"Bearer token"}, &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}, nil, admin.ErrInvalidToken},
		{"revoked", []string{"Bearer token"}, &keymanager.Verdict{Reason: keymanager.ReasonRevoked, Kind: keymanager.AccessToken, Grant: live.Grant}, nil, admin.ErrInvalidToken},
		{"an API key", []string{"Bearer token"}, &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: keymanager.APIKeyCredential, Grant: live.Grant}, nil, admin.ErrInvalidToken},
		{"nothing decided", []string{"Bearer token"}, &keymanager.Verdict{}, nil, admin.ErrInvalidToken},
		{"active without facts", []string{"Bearer token"}, &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken}, nil, admin.ErrInvalidToken},
		{"not known because of trouble", []string{"Bearer token"}, nil, broken, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/api/v1/gateways", nil)
			for _, h := range tc.headers {
				r.Header.Add("Authorization", h)
			}
			caller, err := authenticator{validatorFunc(func(q keymanager.Query) (*keymanager.Verdict, error) {
				if q.Credential.Kind != keymanager.AccessToken || q.Credential.Value != "token" || q.API != "" {
					t.Errorf("asked about %v %q", q.Credential.Kind, q.API)
				}
				return tc.verdict, tc.err
			})}.Authenticate(r)
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if (caller.Organization == "acme") != (tc.want == nil) {
				t.Errorf("caller %+v", caller)
			}
		})
	}
}
