package oauth

import (
	"net/http"
	"strconv"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// grant is a row of the table of grant types. decide says what the client gets:
// the token's user, user type and scopes.
type grant struct {
	name   string
	decide func(*store.ClientFacts, *form) (keymanager.Token, *answer)
}

// grants are the grant types that the token endpoint serves.
func grants() []grant {
	return []grant{
		{keymanager.GrantClientCredentials, clientCredentials},
	}
}

// token is the token endpoint (RFC 6749 section 3.2).
func (s *Server) token(r *http.Request, body string) answer {
	// What is asked for.
	var f form
	if refused := f.readForm(r, body); refused != nil {
		return *refused
	}
	g, refused := askedGrant(&f)
	if refused != nil {
		return *refused
	}
	// Who asks.
	client, refused := s.authenticate(r, &f)
	if refused != nil {
		return *refused
	}
	// What he may have.
	if !may(client, g.name) {
		return unauthorizedClient
	}
	t, refused := g.decide(client, &f)
	if refused != nil {
		return *refused
	}
	// Make it, keep it, say it.
	return s.issue(r, client, t)
}

func askedGrant(f *form) (grant, *answer) {
	name := f.value("grant_type")
	if name == "" {
		return grant{}, invalidRequest("grant_type is missing")
	}
	for _, g := range grants() {
		if g.name == name {
			return g, nil
		}
	}
	return grant{}, &unsupportedGrant
}

// clientCredentials is the grant of RFC 6749 section 4.4: a token for the
// application itself, in the name of its owner.
func clientCredentials(c *store.ClientFacts, f *form) (keymanager.Token, *answer) {
	scopes, refused := grantScopes(c, f.value("scope"))
	if refused != nil {
		return keymanager.Token{}, refused
	}
	return keymanager.Token{
		User:     c.Owner.ID,
		UserType: keymanager.UserTypeApplication,
		Scopes:   scopes,
	}, nil
}

// issue mints a token, stores its digest and answers with it. The answer is
// the only place where the token itself is.
func (s *Server) issue(r *http.Request, c *store.ClientFacts, t keymanager.Token) answer {
	value, err := s.o.Minter.AccessToken()
	if err != nil {
		return s.unavailable(r, err)
	}
	if t.ID, err = s.o.Minter.TokenID(); err != nil {
		return s.unavailable(r, err)
	}
	lifetime := s.o.TokenLifetime
	if c.Client.TokenLifetime >= time.Second {
		lifetime = c.Client.TokenLifetime
	}
	t.Digest = s.o.Peppers.Digest(value)
	t.ConsumerKey = c.Client.ConsumerKey
	t.ApplicationID = c.Application.ID
	t.KeyType = c.Client.KeyType
	t.IssuedAt = s.o.Now()
	t.ExpiresAt = t.IssuedAt.Add(lifetime)
	if err := s.o.Store.CreateToken(r.Context(), &t); err != nil {
		return s.unavailable(r, err)
	}
	return answer{status: http.StatusOK, body: tokenReply(value, lifetime, t.Scopes)}
}

// tokenReply is the answer of RFC 6749 section 5.1. It names the scopes
// whenever there are any, also where the client knows them.
func tokenReply(value string, lifetime time.Duration, scopes []keymanager.Scope) []byte {
	all := joinScopes(scopes)
	b := make([]byte, 0, len(value)+len(all)+96)
	b = append(b, `{"access_token":"`...)
	b = append(b, value...)
	b = append(b, `","token_type":"Bearer","expires_in":`...)
	b = strconv.AppendInt(b, int64(lifetime/time.Second), 10)
	if all != "" {
		b = append(b, `,"scope":`...)
		b = appendJSON(b, all)
	}
	return append(b, '}')
}
