package authz

import (
	"strings"

	"tollgate/authz/apis"
	"tollgate/envoy"
	"tollgate/keymanager"
)

// Tags tells whether a credential can be ours before anything is looked up: a
// forged or random one ends here.
type Tags interface {
	Check(kind keymanager.CredentialKind, value string) bool
}

// place is where a credential was found. The zero value is nowhere.
type place uint8

const (
	nowhere place = iota
	inAuthorization
	inHeader
	inQuery
	inSubprotocol
)

// kind returns the kind of credential that belongs in the place.
func (p place) kind() keymanager.CredentialKind {
	switch p {
	case inAuthorization, inSubprotocol:
		return keymanager.AccessToken
	case inHeader, inQuery:
		return keymanager.APIKeyCredential
	default:
		return keymanager.NoCredential
	}
}

// findCredential returns the one credential in the places that the API takes,
// or why there is none that can be used; where it was found is told in both
// cases. It has not been checked yet.
func findCredential(r *Request, query string, offered *offer, api *apis.API) (value string, at place, why Reason) {
	found := 0
	if api.TakesBearer && r.Authorization.Count > 0 {
		// Two headers arrive joined by a comma, which no token has.
		if r.Authorization.Count > 1 || strings.IndexByte(r.Authorization.Value, ',') >= 0 {
			return "", inAuthorization, severalCredentials
		}
		token, scheme, ok := bearer(r.Authorization.Value)
		if scheme && !ok {
			return "", inAuthorization, malformedCredential
		}
		if scheme {
			value, at = token, inAuthorization
			found++
		}
	}
	if api.TakesKeyHeader && r.APIKey.Count > 0 {
		if r.APIKey.Count > 1 || r.APIKey.Value != "" {
			value, at = r.APIKey.Value, inHeader
			found += r.APIKey.Count
		}
	}
	if api.TakesKeyQuery && query != "" {
		if key, n := queryParameter(query, envoy.QueryAPIKey); n > 0 {
			value, at = key, inQuery
			found += n
		}
	}
	if api.TakesSubprotocol && offered.count > 0 {
		value, at = offered.token, inSubprotocol
		if value == "" {
			return "", at, malformedCredential
		}
		found += offered.count
	}
	switch found {
	case 0:
		return "", nowhere, missingCredential
	case 1:
		return value, at, allowed
	default:
		return "", at, severalCredentials
	}
}

// bearer reads "Bearer token" (RFC 6750 section 2.1): the scheme in any case,
// one space, the token. scheme tells whether it is this scheme at all.
func bearer(v string) (token string, scheme, ok bool) {
	const name = "bearer"
	if len(v) < len(name) || !strings.EqualFold(v[:len(name)], name) {
		return "", false, false
	}
	rest := v[len(name):]
	if rest != "" && isToken(rest[0]) { // another scheme that begins so
		return "", false, false
	}
	if len(rest) < 2 || rest[0] != ' ' {
		return "", true, false
	}
	for i := 1; i < len(rest); i++ {
		if c := rest[i]; c <= ' ' || c >= 0x7f {
			return "", true, false
		}
	}
	return rest[1:], true, true
}

// isToken reports whether c may be part of the name of a scheme.
func isToken(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) < 0
}

// queryParameter returns the last value of a parameter by its raw name, and how
// often it comes. Nothing is decoded: what is taken here Envoy must be able to
// remove by the same name.
func queryParameter(query, name string) (value string, n int) {
	for query != "" {
		var one string
		one, query, _ = strings.Cut(query, "&")
		if k, v, _ := strings.Cut(one, "="); k == name {
			value = v
			n++
		}
	}
	return value, n
}

// leaked are the query parameters that are looked through for credentials of
// ours also where the API takes none from the query.
var leaked = [...]string{envoy.QueryAPIKey, "access_token"}

// toStrip tells which credentials must not reach the back end.
type toStrip struct {
	authorization, apiKey bool
	parameters            [len(leaked)]bool
	protocols             protocols
}

// strip looks at every place, whether the API takes credentials from it or not.
// Parameters of the query stay where they are none of ours: a back end may have
// its own of that name, and taking one out makes Envoy sort the whole query.
func strip(r *Request, query string, offered *offer, at place, tags Tags) (s toStrip) {
	s.protocols = offered.keep(at)
	s.authorization = r.Authorization.Count > 0
	s.apiKey = r.APIKey.Count > 0
	if query == "" {
		return s
	}
	s.parameters[0] = at == inQuery
	for i, name := range leaked {
		if !s.parameters[i] && strings.Contains(query, name) {
			s.parameters[i] = leaks(query, name, tags)
		}
	}
	return s
}

// maxLeaks is how many parameters of one name are checked: more are taken out
// unseen.
const maxLeaks = 8

func leaks(query, name string, tags Tags) bool {
	for n := 0; query != ""; {
		var one string
		one, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(one, "=")
		if k != name {
			continue
		}
		if n++; n > maxLeaks || tags.Check(keymanager.AccessToken, v) || tags.Check(keymanager.APIKeyCredential, v) {
			return true
		}
	}
	return false
}
