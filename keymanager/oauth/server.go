// Package oauth serves the OAuth 2.0 endpoints of the key manager: token (RFC
// 6749), revocation (RFC 7009), introspection (RFC 7662) and the metadata that
// names them (RFC 8414).
//
// Each endpoint has a file and walks through its own phases, top to bottom:
// what is asked, who asks, may he, do it, say so. Reading a body, telling who
// the client is and writing an answer are shared. A refusal is an answer like
// any other. Trouble of the store is 503 with Retry-After and nothing else: it
// is never a denial, never "inactive" and never a token.
//
// No answer and no log line repeats what a client sent. A credential leaves the
// package once, in the answer that issues it; stored is its digest.
package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
)

// Store is the part of store.Store that the endpoints use.
type Store interface {
	ClientFacts(ctx context.Context, k keymanager.ConsumerKey) (*store.ClientFacts, error)
	CreateToken(ctx context.Context, t *keymanager.Token) error
	TokenByDigest(ctx context.Context, d keymanager.Digest) (*keymanager.Token, error)
	TokenFacts(ctx context.Context, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error)
	InTx(ctx context.Context, fn func(store.Store) error) (keymanager.Position, error)
}

// Options of a Server. Store, Minter, Tags, Peppers and Issuer are required.
type Options struct {
	Store   Store
	Minter  *token.Minter
	Tags    *token.TagKeys
	Peppers *token.Peppers
	// Issuer is the URL that the endpoints' paths are appended to, without a
	// slash at the end. It is https, or http of a loopback address.
	Issuer string
	// TokenLifetime is that of access tokens whose client names none; an hour
	// if 0.
	TokenLifetime time.Duration
	// BodyTimeout bounds the reading of a request's body; 10 s if 0.
	BodyTimeout time.Duration
	// Failures is how many failed authentications of one client from one
	// address are heard within FailureWindow; 10 if 0. Those after it are
	// answered with 429.
	Failures int
	// FailureWindow is a minute if 0.
	FailureWindow time.Duration
	// ClientAddress tells where a request comes from; the TCP peer if nil,
	// which behind a gateway is the gateway for everyone. It must not believe
	// a header of anyone but the gateway.
	ClientAddress func(*http.Request) netip.Addr
	// Confirm waits, for a bounded time, until gateways have confirmed a
	// position of the log; nil does not wait. Its error is logged: the change
	// is committed and takes effect without it.
	Confirm func(context.Context, keymanager.Position) error
	// Now is the clock; the system's if nil.
	Now func() time.Time
	// Logger is told of every refused client, revocation and fault, each time: it
	// is for the Logger to leave out what it was just told. nil discards.
	Logger *slog.Logger
}

// Server serves the endpoints.
type Server struct {
	o         Options
	endpoints []endpoint
	document  []byte // the metadata
	failures  *failures
	revoking  revoking
}

// endpoint is a row of the table from which requests are served and metadata
// is written.
type endpoint struct {
	path     string
	methods  string                                      // those allowed, as in Allow
	serve    func(*Server, *http.Request, string) answer // with the request's body
	metadata string                                      // member that holds its URL; "" = none
	auth     []string                                    // how its callers authenticate
	urgent   bool                                        // must not wait behind the issuing of tokens
}

// The paths of the endpoints.
const (
	PathToken      = "/oauth2/token"
	PathRevoke     = "/oauth2/revoke"
	PathIntrospect = "/oauth2/introspect"
	PathMetadata   = "/.well-known/oauth-authorization-server"
)

func table() []endpoint {
	return []endpoint{
		{PathToken, "POST", (*Server).token, "token_endpoint", clientAuthMethods(), false},
		{PathRevoke, "POST", (*Server).revoke, "revocation_endpoint", clientAuthMethods(), true},
		{PathIntrospect, "POST", (*Server).introspect, "introspection_endpoint", append(clientAuthMethods(), schemeBearer), true},
		{PathMetadata, "GET, HEAD", (*Server).metadata, "", nil, false},
	}
}

// New returns a Server.
func New(o Options) (*Server, error) {
	if o.Store == nil || o.Minter == nil || o.Tags == nil || o.Peppers == nil {
		return nil, errors.New("oauth: Store, Minter, Tags and Peppers are required")
	}
	issuer, err := parseIssuer(o.Issuer)
	if err != nil {
		return nil, err
	}
	o.TokenLifetime = cmp.Or(o.TokenLifetime, time.Hour)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 10*time.Second)
	o.Failures = cmp.Or(o.Failures, 10)
	o.FailureWindow = cmp.Or(o.FailureWindow, time.Minute)
	if o.TokenLifetime < time.Second || o.BodyTimeout < 0 || o.Failures < 0 || o.FailureWindow < time.Second {
		return nil, errors.New("oauth: TokenLifetime and FailureWindow must be at least a second, BodyTimeout and Failures positive")
	}
	if o.ClientAddress == nil {
		o.ClientAddress = peerAddress
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, endpoints: table(), failures: newFailures(o.Failures, o.FailureWindow, o.ClientAddress)}
	if s.document, err = document(o.Issuer, s.endpoints); err != nil {
		return nil, err
	}
	if issuer.Path != "" { // RFC 8414 section 3.1: the issuer's path comes after the well-known one
		of := s.endpoints[len(s.endpoints)-1]
		of.path += issuer.Path
		s.endpoints = append(s.endpoints, of)
	}
	return s, nil
}

// Handler returns the handler of all endpoints. The HTTP server that it is
// mounted on bounds the time for a request's header; the handler bounds that
// for the body.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.answer(w, r)
	a.write(w)
}

// answer finds the endpoint and lets it answer. The body is read before
// anything is refused: what is left of it, the server would wait for.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			// Its type alone: the value may hold anything.
			s.o.Logger.ErrorContext(r.Context(), "panic", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			a = s.outOfService()
		}
	}()
	body, refused := s.readBody(w, r)
	if refused != nil {
		return *refused
	}
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if r.URL.Path != e.path {
			continue
		}
		if !e.allows(r.Method) {
			return notAllowed(e.methods)
		}
		if e.urgent {
			r = r.WithContext(store.Urgent(r.Context()))
		}
		return e.serve(s, r, body)
	}
	return noSuchEndpoint
}
