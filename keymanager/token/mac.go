package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// keySize is the number of bytes of a tag key and of a pepper.
const keySize = 32

// key is one generation of a tag key or pepper. Its HMAC states are reused: a
// reset state has the key's two blocks already hashed.
type key struct {
	id     uint8
	states sync.Pool // of *state
}

// state is an HMAC with the memory that one use of it needs, so that neither
// escapes to the heap.
type state struct {
	mac  hash.Hash
	sum  [sha256.Size]byte
	text [Length]byte
	body [bodyLen]byte
}

func newKey(id uint8, secret [keySize]byte) *key {
	k := &key{id: id}
	k.states.New = func() any { return &state{mac: hmac.New(sha256.New, secret[:])} }
	return k
}

func (k *key) take() *state  { return k.states.Get().(*state) }
func (k *key) give(s *state) { k.states.Put(s) }

// tag computes the tag of s.body into s.sum.
func (s *state) tag(prefix string) {
	s.mac.Reset()
	copy(s.text[:], prefix)
	copy(s.text[prefixLen:], s.body[:headLen])
	s.write(s.text[:prefixLen+headLen])
}

func (s *state) write(p []byte) {
	// Write of a hash.Hash never fails.
	_, _ = s.mac.Write(p)
	s.mac.Sum(s.sum[:0])
}
