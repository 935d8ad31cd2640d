package oauth_test

import (
	"context"
	"errors"
	"sync"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// spy is the real store, counting what is asked of it and failing when told.
type spy struct {
	store.Store
	mu    sync.Mutex
	calls map[string]int
	fail  map[string]error
}

func (s *spy) called(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	return s.fail[name]
}

func (s *spy) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

// breaks makes calls of a method fail with err until it is nil.
func (s *spy) breaks(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[name] = err
}

func (s *spy) ClientFacts(ctx context.Context, k keymanager.ConsumerKey) (*store.ClientFacts, error) {
	if err := s.called("ClientFacts"); err != nil {
		return nil, err
	}
	return s.Store.ClientFacts(ctx, k)
}

func (s *spy) CreateToken(ctx context.Context, t *keymanager.Token) error {
	if err := s.called("CreateToken"); err != nil {
		return err
	}
	return s.Store.CreateToken(ctx, t)
}

func (s *spy) TokenByDigest(ctx context.Context, d keymanager.Digest) (*keymanager.Token, error) {
	if err := s.called("TokenByDigest"); err != nil {
		return nil, err
	}
	return s.Store.TokenByDigest(ctx, d)
}

func (s *spy) TokenFacts(ctx context.Context, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error) {
	if err := s.called("TokenFacts"); err != nil {
		return nil, keymanager.Position{}, err
	}
	return s.Store.TokenFacts(ctx, d, api)
}

func (s *spy) InTx(ctx context.Context, fn func(store.Store) error) (keymanager.Position, error) {
	if err := s.called("InTx"); err != nil {
		return keymanager.Position{}, err
	}
	at, err := s.Store.InTx(ctx, fn)
	if cut := s.called("commit"); cut != nil { // committed, but the answer was lost
		return keymanager.Position{}, cut
	}
	return at, err
}

var errDown = keymanager.Errorf(keymanager.KindUnavailable, "the database cannot be reached")

var errOdd = errors.New("something nobody thought of")
