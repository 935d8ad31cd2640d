package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// inactive is all that is said of a token that is not ours, not known, ended,
// or none of the caller's business (RFC 7662 section 2.2).
var inactive = answer{status: http.StatusOK, body: []byte(`{"active":false}`)}

// caller is who introspects: a client that sees its own tokens, or one with
// tollgate:introspect that sees those of its organization.
type caller struct {
	consumerKey  keymanager.ConsumerKey
	organization keymanager.OrganizationID
	all          bool
}

func (c *caller) sees(g *keymanager.Grant) bool {
	return g.ConsumerKey == c.consumerKey || c.all && g.Organization == c.organization
}

// introspect is the introspection endpoint (RFC 7662).
func (s *Server) introspect(r *http.Request, body string) answer {
	// What is asked for.
	var f form
	value, refused := f.readToken(r, body)
	if refused != nil {
		return *refused
	}
	// Who asks.
	who, refused := s.caller(r, &f)
	if refused != nil {
		return *refused
	}
	// Which token.
	facts, err := s.activeToken(r.Context(), value)
	if err != nil {
		return s.unavailable(r, err)
	}
	// May he know.
	if facts == nil || !who.sees(&facts.Grant) {
		return inactive
	}
	reply, err := json.Marshal(s.describe(facts))
	if err != nil {
		return s.unavailable(r, err)
	}
	return answer{status: http.StatusOK, body: reply}
}

// caller authenticates who introspects: a client by its secret, or the bearer
// of an access token.
func (s *Server) caller(r *http.Request, f *form) (*caller, *answer) {
	header := r.Header["Authorization"]
	if len(header) == 1 {
		if value, ok := cutScheme(header[0], schemeBearer); ok {
			return s.bearer(r, f, value)
		}
	}
	c, refused := s.authenticate(r, f)
	if refused != nil {
		return nil, refused
	}
	return &caller{
		consumerKey:  c.Client.ConsumerKey,
		organization: c.Application.Organization,
		all:          slices.Contains(c.Application.Scopes, keymanager.ScopeIntrospect),
	}, nil
}

func (s *Server) bearer(r *http.Request, f *form, value string) (*caller, *answer) {
	if f.value("client_secret") != "" {
		return nil, invalidRequest("the caller authenticates in more than one way")
	}
	facts, err := s.activeToken(r.Context(), value)
	if err != nil {
		a := s.unavailable(r, err)
		return nil, &a
	}
	if facts == nil {
		return nil, &invalidBearer
	}
	return &caller{
		consumerKey:  facts.Grant.ConsumerKey,
		organization: facts.Grant.Organization,
		all:          slices.Contains(facts.Grant.Scopes, keymanager.ScopeIntrospect),
	}, nil
}

// activeToken returns the facts about an access token, nil unless it is
// honoured now.
func (s *Server) activeToken(ctx context.Context, value string) (*store.Facts, error) {
	if !s.o.Tags.Check(keymanager.AccessToken, value) {
		return nil, nil
	}
	for digest := range s.o.Peppers.Digests(value) {
		facts, _, err := s.o.Store.TokenFacts(ctx, digest, "")
		switch {
		case err != nil:
			return nil, err
		case facts == nil:
			continue
		case facts.Standing().Reason(s.o.Now()) != keymanager.ReasonActive:
			return nil, nil
		default:
			return facts, nil
		}
	}
	return nil, nil
}

// description is the answer of RFC 7662 section 2.2, and below it members of
// our own. sub is the client itself for an application's token, as in RFC 9068
// section 2.2: user names hold a "/" and consumer keys do not, so that neither
// can pass for the other.
type description struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type"`
	Exp       int64  `json:"exp,omitempty"`
	Iat       int64  `json:"iat"`
	Sub       string `json:"sub"`
	Iss       string `json:"iss"`
	Jti       string `json:"jti"`

	UserType     keymanager.UserType `json:"user_type"`
	KeyType      keymanager.KeyType  `json:"key_type"`
	Organization string              `json:"organization"`
	Application  describedApp        `json:"application"`
}

type describedApp struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Owner string `json:"owner"`
	Tier  string `json:"tier"`
}

func (s *Server) describe(f *store.Facts) description {
	g := &f.Grant
	d := description{
		Active:       true,
		Scope:        joinScopes(g.Scopes),
		ClientID:     string(g.ConsumerKey),
		Username:     g.User,
		TokenType:    schemeBearer,
		Exp:          unix(f.ExpiresAt),
		Iat:          unix(f.IssuedAt),
		Sub:          g.User,
		Iss:          s.o.Issuer,
		Jti:          f.TokenID.String(),
		UserType:     g.UserType,
		KeyType:      g.KeyType,
		Organization: string(g.Organization),
		Application: describedApp{
			ID:    string(g.Application.ID),
			Name:  g.Application.Name,
			Owner: g.Subscriber,
			Tier:  string(g.Application.Tier),
		},
	}
	if g.UserType == keymanager.UserTypeApplication {
		d.Sub = string(g.ConsumerKey)
	}
	return d
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
