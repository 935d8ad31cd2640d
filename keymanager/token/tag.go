package token

import (
	"crypto/hmac"
	"io"

	"tollgate/keymanager"
)

// TagKeys are the two generations of the key that makes and checks tags. The
// zero TagKeys refuse everything.
type TagKeys struct {
	current, previous *key
}

const tagKeysHeading = "tollgate-tag-keys 1"

// NewTagKeys returns the content of a new tag key file.
func NewTagKeys(rand io.Reader) ([]byte, error) { return newKeyFile(tagKeysHeading, rand) }

// RotateTagKeys returns file with a new current key; the one that was current
// becomes the previous one. Credentials tagged with the one before are refused
// from then on: rotate at most once in the life of a credential. Gateways get
// the new file first, the key manager last.
func RotateTagKeys(file []byte, rand io.Reader) ([]byte, error) {
	return rotateKeyFile(tagKeysHeading, file, rand)
}

// ParseTagKeys reads the content of a tag key file. Its errors name the line,
// and show nothing of a key.
func ParseTagKeys(file []byte) (*TagKeys, error) {
	f, err := parseKeyFile(tagKeysHeading, file)
	if err != nil {
		return nil, err
	}
	t := &TagKeys{}
	t.current, t.previous = f.keys()
	return t, nil
}

// Check reports whether value is a credential of kind that a holder of the tag
// keys made. It says nothing about whether it was issued, is live, or may do
// anything. It costs about a microsecond and, as a rule, allocates nothing.
func (t *TagKeys) Check(kind keymanager.CredentialKind, value string) bool {
	prefix := prefixOf(kind)
	return prefix != "" && t.check(prefix, value)
}

func (t *TagKeys) check(prefix, value string) bool {
	if t == nil || t.current == nil || len(value) != Length {
		return false
	}
	s := t.current.take()
	defer t.current.give(s)
	if !parse(&s.body, &s.text, prefix, value) {
		return false
	}
	switch id := s.body[atKeyID]; {
	case id == t.current.id:
		return s.verify(prefix)
	case t.previous != nil && id == t.previous.id:
		p := t.previous.take()
		defer t.previous.give(p)
		p.body = s.body
		return p.verify(prefix)
	default:
		return false
	}
}

// verify compares the tag in s.body in constant time.
func (s *state) verify(prefix string) bool {
	s.tag(prefix)
	return hmac.Equal(s.sum[:tagLen], s.body[headLen:])
}
