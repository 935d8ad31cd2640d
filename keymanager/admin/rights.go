package admin

import (
	"fmt"
	"strings"

	"tollgate/keymanager"
)

// A right says who may use an operation: a caller that has one of scopes or
// tollgate:admin. Every caller acts in its own organization only, but for the
// administrators of the system, who alone may use an operation marked system.
type right struct {
	scopes []keymanager.Scope
	system bool
}

var (
	admins      = right{}
	systemOnly  = right{system: true}
	publishers  = right{scopes: []keymanager.Scope{keymanager.ScopePublish}}
	subscribers = right{scopes: []keymanager.Scope{keymanager.ScopeSubscribe}}
	validators  = right{scopes: []keymanager.Scope{keymanager.ScopeValidate}}
	both        = right{scopes: []keymanager.Scope{keymanager.ScopePublish, keymanager.ScopeSubscribe}}
)

// rights is the whole table. An operation without a row cannot be mounted.
// Apply asks for the right of the put operation of each document's kind.
var rights = map[string]right{
	"list-organizations":  both, // no more than its own for all but the system's
	"get-organization":    both,
	"put-organization":    admins,
	"delete-organization": systemOnly,

	"list-users":  subscribers,
	"get-user":    subscribers,
	"put-user":    admins,
	"delete-user": admins,

	"list-tiers":  both,
	"get-tier":    both,
	"put-tier":    publishers,
	"delete-tier": publishers,

	"list-apis":     both,
	"get-api":       both,
	"put-api":       publishers,
	"delete-api":    publishers,
	"set-api-state": publishers,
	"import-api":    publishers,

	// An application that has scopes tollgate:* is for administrators to
	// change, with its keys: see guardScopes.
	"list-applications":  subscribers,
	"get-application":    subscribers,
	"put-application":    subscribers,
	"delete-application": subscribers,

	"list-keys":  subscribers,
	"get-key":    subscribers,
	"create-key": subscribers,
	"put-key":    subscribers,
	"delete-key": subscribers,

	"list-secrets":  subscribers,
	"create-secret": subscribers,
	"delete-secret": subscribers,

	"list-api-keys":  subscribers,
	"get-api-key":    subscribers,
	"create-api-key": subscribers,
	"revoke-api-key": subscribers,

	// The state of a subscription is the publisher's: see guardState.
	"list-subscriptions":     both,
	"get-subscription":       both,
	"put-subscription":       subscribers,
	"delete-subscription":    subscribers,
	"set-subscription-state": publishers,

	"validate":      validators,
	"apply":         both,
	"list-gateways": systemOnly,
	"list-audit":    admins,
	"get-usage":     publishers,
	"get-all-usage": systemOnly,
	// They show who did what when.
	"list-usage-records": admins,
	"revoke-token":       systemOnly,
}

// allows reports whether a caller may use an operation with this right.
func (r right) allows(c Caller) bool {
	if r.system {
		return c.system()
	}
	if c.has(keymanager.ScopeAdmin) {
		return true
	}
	for _, s := range r.scopes {
		if c.has(s) {
			return true
		}
	}
	return false
}

// wanted lists the scopes of which one is needed.
func (r right) wanted() []keymanager.Scope {
	return append([]keymanager.Scope{keymanager.ScopeAdmin}, r.scopes...)
}

// refusal says what a caller lacks.
func (r right) refusal() *keymanager.Error {
	if r.system {
		return keymanager.Errorf(keymanager.KindForbidden,
			"needs the scope %s and an application of the organization %s", keymanager.ScopeAdmin, SystemOrganization)
	}
	var names []string
	for _, s := range r.wanted() {
		names = append(names, string(s))
	}
	return keymanager.Errorf(keymanager.KindForbidden, "needs the scope %s", strings.Join(names, " or "))
}

// challenge is the WWW-Authenticate header of a refusal (RFC 6750 section 3).
func challenge(code string, scopes []keymanager.Scope) string {
	c := `Bearer realm="tollgate"`
	if code != "" {
		c += fmt.Sprintf(`, error=%q`, code)
	}
	if len(scopes) > 0 {
		var names []string
		for _, s := range scopes {
			names = append(names, string(s))
		}
		c += fmt.Sprintf(`, scope=%q`, strings.Join(names, " "))
	}
	return c
}
