package token

import (
	"crypto/hmac"
	"io"
	"iter"

	"tollgate/keymanager"
)

// Peppers are the two generations of the key of stored digests. The zero
// Peppers match nothing.
type Peppers struct {
	current, previous *key
}

const peppersHeading = "tollgate-peppers 1"

// NewPeppers returns the content of a new pepper file.
func NewPeppers(rand io.Reader) ([]byte, error) { return newKeyFile(peppersHeading, rand) }

// RotatePeppers returns file with a new current pepper; the one that was
// current becomes the previous one. Whatever was stored under the one before
// no longer matches, client secrets and API keys included: they must have been
// replaced by then.
func RotatePeppers(file []byte, rand io.Reader) ([]byte, error) {
	return rotateKeyFile(peppersHeading, file, rand)
}

// ParsePeppers reads the content of a pepper file. Its errors name the line,
// and show nothing of a pepper.
func ParsePeppers(file []byte) (*Peppers, error) {
	f, err := parseKeyFile(peppersHeading, file)
	if err != nil {
		return nil, err
	}
	p := &Peppers{}
	p.current, p.previous = f.keys()
	return p, nil
}

// Digest returns the digest of value under the current pepper: what is stored
// of a new credential.
func (p *Peppers) Digest(value string) keymanager.Digest {
	if p == nil {
		return keymanager.Digest{}
	}
	return p.current.digest(value)
}

// Previous returns the digest of value under the previous pepper, false if
// there is none: where to look for what the current one does not find.
func (p *Peppers) Previous(value string) (keymanager.Digest, bool) {
	if p == nil || p.previous == nil {
		return keymanager.Digest{}, false
	}
	return p.previous.digest(value), true
}

// Digests yields the digests that value may be stored under, in the order of
// looking: the current pepper's, then the previous one's. The next is computed
// only when the one before it found nothing.
func (p *Peppers) Digests(value string) iter.Seq[keymanager.Digest] {
	return func(yield func(keymanager.Digest) bool) {
		if !yield(p.Digest(value)) {
			return
		}
		if previous, has := p.Previous(value); has {
			yield(previous)
		}
	}
}

// DigestWith returns the digest of value under the pepper called id, false if
// it is not one of the two.
func (p *Peppers) DigestWith(id uint8, value string) (keymanager.Digest, bool) {
	if p == nil {
		return keymanager.Digest{}, false
	}
	for _, k := range [...]*key{p.current, p.previous} {
		if k != nil && k.id == id {
			return k.digest(value), true
		}
	}
	return keymanager.Digest{}, false
}

// Match reports, in constant time, whether d is the digest of value. It is
// false when d's pepper is gone.
func (p *Peppers) Match(d keymanager.Digest, value string) bool {
	got, known := p.DigestWith(d.PepperID, value)
	return hmac.Equal(got.Sum[:], d.Sum[:]) && known
}

// digest of a nil key is the zero Digest, which nothing is stored under: ids of
// peppers start at 1.
func (k *key) digest(value string) keymanager.Digest {
	if k == nil {
		return keymanager.Digest{}
	}
	s := k.take()
	defer k.give(s)
	s.mac.Reset()
	// In pieces, through memory that is not allocated anew.
	for len(value) > Length {
		copy(s.text[:], value)
		_, _ = s.mac.Write(s.text[:])
		value = value[Length:]
	}
	s.write(s.text[:copy(s.text[:], value)])
	return keymanager.Digest{PepperID: k.id, Sum: s.sum}
}
