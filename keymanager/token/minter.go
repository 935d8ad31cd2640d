package token

import (
	"errors"
	"fmt"
	"io"

	"tollgate/keymanager"
)

// Minter makes credentials. It is safe for concurrent use if its source of
// randomness is.
type Minter struct {
	tags *TagKeys
	rand io.Reader
}

// NewMinter returns a Minter that tags with the current key of tags. rand is
// crypto/rand.Reader except in tests.
func NewMinter(tags *TagKeys, rand io.Reader) *Minter {
	return &Minter{tags: tags, rand: rand}
}

// AccessToken returns a new access token.
func (m *Minter) AccessToken() (string, error) { return m.mint(PrefixAccessToken) }

// ClientSecret returns a new client secret.
func (m *Minter) ClientSecret() (string, error) { return m.mint(PrefixClientSecret) }

// APIKey returns a new API key.
func (m *Minter) APIKey() (string, error) { return m.mint(PrefixAPIKey) }

// TokenID returns a new id for an access token or API key. It is independent
// of the credential.
func (m *Minter) TokenID() (keymanager.TokenID, error) {
	var id keymanager.TokenID
	if m == nil || m.rand == nil {
		return id, errNoMinter
	}
	if _, err := io.ReadFull(m.rand, id[:]); err != nil {
		return keymanager.TokenID{}, fmt.Errorf("token: reading randomness: %w", err)
	}
	return id, nil
}

var errNoMinter = errors.New("token: a Minter needs tag keys and a source of randomness")

func (m *Minter) mint(prefix string) (string, error) {
	if m == nil || m.rand == nil || m.tags == nil || m.tags.current == nil {
		return "", errNoMinter
	}
	k := m.tags.current
	s := k.take()
	defer k.give(s)
	s.body = [bodyLen]byte{atVersion: version, atKeyID: k.id}
	if _, err := io.ReadFull(m.rand, s.body[atRandom:headLen]); err != nil {
		return "", fmt.Errorf("token: reading randomness: %w", err)
	}
	s.tag(prefix)
	copy(s.body[headLen:], s.sum[:tagLen])
	format(&s.text, prefix, &s.body)
	return string(s.text[:]), nil
}
