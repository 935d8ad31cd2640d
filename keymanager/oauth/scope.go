package oauth

import (
	"slices"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// grantScopes returns what a client gets of the scopes it asks for, in order,
// each once (RFC 6749 section 3.3).
//
// It may have the scopes of the APIs that its application is subscribed to and
// those of the management plane that the application was given. Of what it
// asks for it gets what it may have; nothing left is invalid_scope. Who asks
// for nothing gets all scopes of its APIs, as in WSO2, which can be none; the
// management plane's must be asked for, so that an everyday token does not
// carry them. The application that the key manager made for itself has no
// others and gets these.
func grantScopes(c *store.ClientFacts, asked string) ([]keymanager.Scope, *answer) {
	apis := apiScopes(c.APIScopes)
	if asked == "" {
		if c.Application.BuiltIn {
			return sorted(slices.Clone(c.Application.Scopes)), nil
		}
		return apis, nil
	}
	var granted []keymanager.Scope
	for name := range strings.SplitSeq(asked, " ") {
		scope := keymanager.Scope(name)
		if name == "" { // two spaces
			continue
		}
		if !keymanager.ValidScope(scope) {
			return nil, &malformedScope
		}
		if _, ok := slices.BinarySearch(apis, scope); ok || slices.Contains(c.Application.Scopes, scope) {
			granted = append(granted, scope)
		}
	}
	if len(granted) == 0 {
		return nil, &noScopeLeft
	}
	return sorted(granted), nil
}

// apiScopes returns those of scopes that an API can give. One of the
// management plane is not among them, whoever wrote it into an API.
func apiScopes(scopes []keymanager.Scope) []keymanager.Scope {
	given := slices.DeleteFunc(slices.Clone(scopes), func(s keymanager.Scope) bool {
		return s.Management() || !keymanager.ValidScope(s)
	})
	return sorted(given)
}

func sorted(scopes []keymanager.Scope) []keymanager.Scope {
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

func joinScopes(scopes []keymanager.Scope) string {
	if len(scopes) == 1 {
		return string(scopes[0])
	}
	n := len(scopes)
	for _, s := range scopes {
		n += len(s)
	}
	var b strings.Builder
	b.Grow(n)
	for i, s := range scopes {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(s))
	}
	return b.String()
}
