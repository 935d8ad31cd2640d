package main

import (
	"net/http"
	"strings"

	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// authenticator tells the management API who calls, from our own access
// tokens. It asks the store each time: a token revoked is refused on the next
// request.
type authenticator struct {
	validator keymanager.Validator
}

// Authenticate implements admin.Authenticator.
func (a authenticator) Authenticate(r *http.Request) (admin.Caller, error) {
	headers := r.Header.Values(envoy.HeaderAuthorization)
	if len(headers) == 0 {
		return admin.Caller{}, admin.ErrNoCredential
	}
	scheme, value, ok := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") {
		return admin.Caller{}, admin.ErrInvalidToken
	}
	verdict, err := a.validator.Validate(r.Context(), keymanager.Query{
		Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value},
	})
	if err != nil {
		return admin.Caller{}, err
	}
	if verdict.Reason != keymanager.ReasonActive || verdict.Kind != keymanager.AccessToken || verdict.Grant == nil {
		return admin.Caller{}, admin.ErrInvalidToken
	}
	return admin.Caller{
		ConsumerKey:  verdict.Grant.ConsumerKey,
		Application:  verdict.Grant.Application.ID,
		Organization: verdict.Grant.Organization,
		Scopes:       verdict.Grant.Scopes,
	}, nil
}
