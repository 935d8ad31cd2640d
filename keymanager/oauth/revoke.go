package oauth

import (
	"context"
	"net/http"
	"sync"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// revoked is the answer once the token is of no use (RFC 7009 section 2.2).
var revoked = answer{status: http.StatusOK}

// revoke is the revocation endpoint (RFC 7009). 200 is said after the commit
// and, for a bounded time, after gateways have confirmed it.
func (s *Server) revoke(r *http.Request, body string) answer {
	// What is asked for.
	var f form
	value, refused := f.readToken(r, body)
	if refused != nil {
		return *refused
	}
	// Who asks.
	client, refused := s.authenticate(r, &f)
	if refused != nil {
		return *refused
	}
	// Which token. The hint is not needed: the prefix tells the kind. What is
	// not ours, not known or ended is as good as revoked. An API key of ours is
	// not: whoever gives it up here must learn that it lives on.
	if !s.o.Tags.Check(keymanager.AccessToken, value) {
		if s.o.Tags.Check(keymanager.APIKeyCredential, value) {
			return unsupportedToken
		}
		return revoked
	}
	t, err := s.storedToken(r.Context(), value)
	if keymanager.IsNotFound(err) {
		return revoked
	}
	if err != nil {
		return s.unavailable(r, err)
	}
	// May he.
	if t.ConsumerKey != client.Client.ConsumerKey {
		return foreignToken
	}
	now := s.o.Now()
	if !t.RevokedAt.IsZero() || !now.Before(t.ExpiresAt) {
		return revoked
	}
	// Do it, also if the client has gone meanwhile.
	ctx := context.WithoutCancel(r.Context())
	at, err := s.end(ctx, t, now)
	if keymanager.IsNotFound(err) { // swept meanwhile
		return revoked
	}
	if err != nil {
		return s.unavailable(r, err)
	}
	s.o.Logger.InfoContext(ctx, "token revoked", "token_id", t.ID, "client_id", t.ConsumerKey, "position", at)
	s.confirm(ctx, at)
	return revoked
}

// revoking counts the revocations that each client has under way.
type revoking struct {
	mu  sync.Mutex
	has map[keymanager.ConsumerKey]int
}

// urgentRevocations is how many revocations of one client go before the issuing
// of tokens at a time. They are done one after the other anyway, since each is a
// number in the log; a client that sends more of them at once must not keep out
// those of others.
const urgentRevocations = 2

// enter returns in which context a client's revocation is done, and what to call
// after it.
func (v *revoking) enter(ctx context.Context, client keymanager.ConsumerKey) (context.Context, func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.has == nil {
		v.has = map[keymanager.ConsumerKey]int{}
	}
	if v.has[client]++; v.has[client] > urgentRevocations {
		ctx = store.Normal(ctx)
	}
	return ctx, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.has[client]--; v.has[client] == 0 {
			delete(v.has, client)
		}
	}
}

// end revokes a token of the client that asks for it.
func (s *Server) end(ctx context.Context, t *keymanager.Token, now time.Time) (keymanager.Position, error) {
	ctx, done := s.revoking.enter(ctx, t.ConsumerKey)
	defer done()
	return s.o.Store.InTx(ctx, func(tx store.Store) error {
		_, err := tx.RevokeToken(ctx, t.ID, now)
		return err
	})
}

// storedToken finds a token under its digest, by either pepper.
func (s *Server) storedToken(ctx context.Context, value string) (t *keymanager.Token, err error) {
	for digest := range s.o.Peppers.Digests(value) {
		if t, err = s.o.Store.TokenByDigest(ctx, digest); !keymanager.IsNotFound(err) {
			break
		}
	}
	return t, err
}

func (s *Server) confirm(ctx context.Context, at keymanager.Position) {
	if s.o.Confirm == nil || at.Seq == 0 {
		return
	}
	if err := s.o.Confirm(ctx, at); err != nil {
		s.o.Logger.WarnContext(ctx, "revocation not yet confirmed by every gateway", "position", at, "error", err)
	}
}
