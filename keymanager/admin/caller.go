package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"tollgate/keymanager"
)

// SystemOrganization owns the built-in application of the administrators.
// Callers of it with the scope tollgate:admin work in every organization.
const SystemOrganization keymanager.OrganizationID = "system"

// DefaultOrganization is made with the system's own at the first start. It is
// what a document of a caller of SystemOrganization means that names none.
const DefaultOrganization keymanager.OrganizationID = "default"

// Caller is who sends a request: an application by its access token.
type Caller struct {
	ConsumerKey  keymanager.ConsumerKey
	Application  keymanager.ApplicationID
	Organization keymanager.OrganizationID
	Scopes       []keymanager.Scope
}

// An Authenticator tells who sends a request.
type Authenticator interface {
	// Authenticate reads the credential of r. It fails with ErrNoCredential or
	// ErrInvalidToken if that is so, and with any other error when it could
	// not find out.
	Authenticate(r *http.Request) (Caller, error)
}

// The refusals of an Authenticator.
var (
	ErrNoCredential = errors.New("no access token")
	ErrInvalidToken = errors.New("the access token is not valid")
)

func (c Caller) has(s keymanager.Scope) bool { return slices.Contains(c.Scopes, s) }

// system reports whether c works in every organization.
func (c Caller) system() bool {
	return c.Organization == SystemOrganization && c.has(keymanager.ScopeAdmin)
}

// reaches reports whether the organization exists as far as c may know.
func (c Caller) reaches(org keymanager.OrganizationID) bool {
	return c.system() || c.Organization != "" && c.Organization == org
}

// request is what the gate found out of a request.
type request struct {
	caller Caller
	param  func(name string) string // of the path
}

type requestKey struct{}

// requestOf returns the request that a handler serves. Without a gate there is
// none, and the zero Caller may do nothing.
func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{param: func(string) string { return "" }}
}

func (r *request) organization() keymanager.OrganizationID {
	return keymanager.OrganizationID(r.param("org"))
}
