package oauth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// clientAuthMethods are the ways to authenticate a client that presented
// understands.
func clientAuthMethods() []string {
	return []string{keymanager.AuthMethodBasic, keymanager.AuthMethodPost}
}

// Authentication schemes of the Authorization header.
const (
	schemeBasic  = "Basic"
	schemeBearer = "Bearer"
)

const (
	maxClientID  = 255
	maxBasicAuth = 4 << 10
)

// presented is what a client says of itself.
type presented struct {
	method, id, secret string
}

// authenticate tells which client asks (RFC 6749 section 2.3). It compares a
// digest and gives the same answer whichever part is wrong. What the store
// reads of a client takes some microseconds more than finding none; who asks
// often enough to measure that is stopped before.
func (s *Server) authenticate(r *http.Request, f *form) (*store.ClientFacts, *answer) {
	p, refused := present(r, f)
	if refused != nil {
		return nil, refused
	}
	now := s.o.Now()
	if wait := s.failures.wait(p.id, r, now); wait > 0 {
		a := tooManyFailures(int((wait + time.Second - 1) / time.Second))
		return nil, &a
	}
	facts, err := s.o.Store.ClientFacts(r.Context(), keymanager.ConsumerKey(p.id))
	known := err == nil
	if keymanager.IsNotFound(err) {
		facts = s.nobody()
	} else if err != nil {
		a := s.unavailable(r, err)
		return nil, &a
	}
	if problem := s.problem(facts, &p, now); problem != "" {
		s.failures.add(p.id, r, now)
		if known { // an unknown id may be anything, also a secret in the wrong field
			s.o.Logger.InfoContext(r.Context(), "client refused", "client_id", p.id, "why", problem)
		}
		return nil, &invalidClient
	}
	s.failures.forgive(p.id, r, now)
	return facts, nil
}

// nobody is the client that an unknown id stands for: its secret matches
// nothing, but takes as long to compare.
func (s *Server) nobody() *store.ClientFacts {
	return &store.ClientFacts{Secrets: []keymanager.ClientSecret{{Digest: keymanager.Digest{
		PepperID: s.o.Peppers.Digest("").PepperID,
	}}}}
}

// problem says why the client is refused, for the log; "" if it is not.
func (s *Server) problem(facts *store.ClientFacts, p *presented, now time.Time) string {
	matched, live := false, false
	for i := range facts.Secrets { // all of them, whichever matches
		secret := &facts.Secrets[i]
		if s.o.Peppers.Match(secret.Digest, p.secret) {
			matched = true
			live = live || secret.ExpiresAt.IsZero() || now.Before(secret.ExpiresAt)
		}
	}
	switch reason := facts.Principal().Reason(); {
	case !matched:
		return "wrong secret"
	case !live:
		return "the secret has expired"
	case facts.Client.AuthMethod != "" && facts.Client.AuthMethod != p.method:
		return "authenticates in another way than it is registered for"
	case reason == keymanager.ReasonApplicationInactive:
		return "the application is not approved"
	case reason != keymanager.ReasonActive:
		return "the application's owner is not active"
	default:
		return ""
	}
}

// present reads the client's credentials. Exactly one method may be used.
func present(r *http.Request, f *form) (presented, *answer) {
	header := r.Header["Authorization"]
	p := presented{method: keymanager.AuthMethodPost, id: f.value("client_id"), secret: f.value("client_secret")}
	switch {
	case len(header) > 1:
		return presented{}, invalidRequest("the client authenticates more than once")
	case len(header) == 1:
		id, secret, ok := parseBasic(header[0])
		switch {
		case !ok:
			return presented{}, &invalidClient
		case p.secret != "":
			return presented{}, invalidRequest("the client authenticates in more than one way")
		case p.id != "" && p.id != id:
			return presented{}, invalidRequest("client_id is not that of the client that authenticates")
		}
		p = presented{method: keymanager.AuthMethodBasic, id: id, secret: secret}
	}
	if p.secret == "" || !isClientID(p.id) {
		return presented{}, &invalidClient
	}
	return p, nil
}

// parseBasic reads a Basic Authorization header; both parts are form-encoded
// (RFC 6749 section 2.3.1).
func parseBasic(header string) (id, secret string, ok bool) {
	encoded, ok := cutScheme(header, schemeBasic)
	if !ok || len(encoded) > maxBasicAuth {
		return "", "", false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", "", false
	}
	id, secret, ok = strings.Cut(string(raw), ":")
	if !ok {
		return "", "", false
	}
	if id, err = url.QueryUnescape(id); err != nil {
		return "", "", false
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return "", "", false
	}
	return id, secret, true
}

// cutScheme returns what follows the scheme in an Authorization header (RFC
// 9110 section 11.4: one space; the scheme in any case).
func cutScheme(header, scheme string) (string, bool) {
	got, rest, ok := strings.Cut(header, " ")
	return rest, ok && strings.EqualFold(got, scheme)
}

// isClientID reports whether s may be looked up: ids are generated here, so
// what is empty, long or not printable is nobody's.
func isClientID(s string) bool {
	return s != "" && len(s) <= maxClientID && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// may reports whether the client is registered for a grant type.
func may(c *store.ClientFacts, grantType string) bool {
	return slices.Contains(c.Client.GrantTypes, grantType)
}
