// Package oauthtest holds what the OAuth endpoints promise to whoever calls
// them (RFC 6749, 7009, 7662 and 8414), as statements that are checked from
// outside. The same ones are checked against the handler alone, against a
// running key manager, and through the gateway before it.
//
// Only tests import it.
package oauthtest

import (
	"net/http"
	"testing"
)

// Site is where the endpoints are reached, and who is known there.
type Site struct {
	// URL is what the endpoints' paths are appended to.
	URL string
	// Do sends a request as a client at the address with this number does.
	// Numbers start at 1; a statement that fails to authenticate takes a new
	// one, so that each is heard.
	Do func(from int, r *http.Request) (*http.Response, error)
	// Gateway says that a gateway stands before the endpoints: it answers other
	// paths and methods itself, and joins repeated headers with commas.
	Gateway bool
	// Issuer is what the metadata must name.
	Issuer string
	// Changes describes all that has been written: two equal answers mean that
	// nothing was in between.
	Changes func(testing.TB) string
	// Log returns all that has been logged.
	Log func() string
	World
}

// World is what the key manager of a Site knows. Three APIs in one
// organization name scopes: pets (pets:read and pets:write), orders
// (orders:read) and vault (vault:open). Nobody is subscribed to the last.
type World struct {
	// Shop is the PRODUCTION key of an application that is subscribed to pets
	// and orders; Sandbox is its SANDBOX key. Second is Shop with another secret
	// that is live, Expired with one that is not any more.
	Shop, Sandbox, Second, Expired Client
	// Watcher is subscribed to the same and has tollgate:introspect. Other is
	// subscribed to nothing and has tollgate:admin. Stranger has
	// tollgate:introspect, in another organization.
	Watcher, Other, Stranger Client

	BasicOnly, PostOnly Client // registered for one method of authentication
	Rejected, Created   Client // the application is not approved
	Orphan              Client // the owner is disabled
	// OtherGrants are registered for no grant that works: none where nobody can
	// make such a client.
	OtherGrants []Client

	// Dead are access tokens that were live, by what became of them.
	Dead map[string]string
	// Unissued is well made, but was never given to anybody. APIKey is live.
	Unissued, APIKey string
}

// Client is how a client authenticates.
type Client struct{ ID, Secret string }

// Check checks every statement.
func Check(t *testing.T, s Site) {
	c := &checker{Site: s}
	for _, part := range []struct {
		name  string
		check func(*testing.T, *checker)
	}{
		{"token refused", tokenRefused},
		{"refused clients look alike", refusedClientsLookAlike},
		{"token issued", tokenIssued},
		{"client authenticates", clientAuthenticates},
		{"guessing is stopped", guessingIsStopped},
		{"revoke", revoke},
		{"revoke nothing", revokeNothing},
		{"revoke refused", revokeRefused},
		{"introspect", introspect},
		{"introspect: who sees", whoSees},
		{"introspect what is dead", introspectDead},
		{"introspect refused", introspectRefused},
		{"metadata", metadata},
		{"metadata lists what works", metadataListsWhatWorks},
	} {
		t.Run(part.name, func(t *testing.T) { part.check(t, c) })
	}
	c.checkLog(t)
}

// StorageDown checks what is said while the store cannot be reached. value is
// a token of Shop's.
func StorageDown(t *testing.T, s Site, value string) {
	c := &checker{Site: s}
	for name, r := range map[string]request{
		"token":                     {body: grantBody, auth: []string{s.Shop.basic()}},
		"token, unknown client":     {body: grantBody, auth: []string{Client{"nobody", "canary"}.basic()}},
		"revoke":                    {path: pathRevoke, body: "token=" + value, auth: []string{s.Shop.basic()}},
		"introspect":                {path: pathIntrospect, body: "token=" + value, auth: []string{s.Shop.basic()}},
		"introspect with a bearer":  {path: pathIntrospect, body: "token=" + value, auth: []string{"Bearer " + value}},
		"introspect something else": {path: pathIntrospect, body: "token=canary", auth: []string{s.Shop.basic()}},
	} {
		got := c.do(t, r)
		after := got.Header.Get("Retry-After")
		if got.Status != http.StatusServiceUnavailable || got.text("error") != "temporarily_unavailable" ||
			len(after) != 1 || after < "1" || after > "5" {
			t.Errorf("%s: %d %s, Retry-After %q; want 503", name, got.Status, got.Body, after)
		}
		if got.member("active") != nil || got.member("access_token") != nil {
			t.Errorf("%s: the answer says more: %s", name, got.Body)
		}
	}
}
