package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"sync"

	"tollgate/keymanager"
)

// A place in Redis is named by RedisPrefix and a keyed digest (HMAC-SHA256) of
// the query, so that a name tells nothing about a credential, and nobody without
// the Redis key can name the place of one. What is there is
//
//	version (1 byte), id of the Redis key (1), nonce (12), sealed verdict, tag (16)
//
// sealed with AES-256-GCM. The AEAD key is another keyed digest of the query:
// each place has its own, so that a value opens nowhere but where it was
// written, reading it takes the credential besides the Redis key, and random
// nonces need never be counted over a fleet. The name and the first two bytes
// are authenticated too.
const (
	// RedisPrefix begins every key that is written: an ACL can name it. Its
	// number is that of the format; another format has other keys.
	RedisPrefix = "tg1:"

	redisVersion = 1
	nameBytes    = 18 // 144 bits of the digest, 24 characters
	nameLength   = len(RedisPrefix) + nameBytes*4/3
	headerLength = 2
	nonceLength  = 12
	tagLength    = 16
	// maxRedisValue bounds what is read and written: a verdict is a few
	// hundred bytes.
	maxRedisValue = 64 << 10
)

// redisKey is one generation. Its HMAC states are reused.
type redisKey struct {
	id     uint8
	states sync.Pool // of *digest
}

type digest struct {
	mac  hash.Hash
	sum  [sha256.Size]byte
	text [512]byte
}

// What a digest is for is the first byte of what is hashed.
const (
	forName byte = iota + 1
	forKey
)

func newRedisKey(s redisSecret) *redisKey {
	k := &redisKey{id: s.id}
	k.states.New = func() any { return &digest{mac: hmac.New(sha256.New, s.secret[:])} }
	return k
}

// place is where the verdict about one query is, under one Redis key.
type place struct {
	id   uint8 // of the Redis key
	name string
	key  [32]byte // of the AEAD
}

// place returns the place of q.
func (k *redisKey) place(q keymanager.Query) place {
	d := k.states.Get().(*digest)
	defer k.states.Put(d)
	p := place{id: k.id}
	text := appendQuery(append(append(d.text[:0], forName), RedisPrefix...), q)
	d.hash(text)
	var name [nameLength]byte
	copy(name[:], RedisPrefix)
	base64.RawURLEncoding.Encode(name[len(RedisPrefix):], d.sum[:nameBytes])
	p.name = string(name[:])
	text[0] = forKey
	d.hash(text)
	p.key = d.sum
	clear(text) // it held a credential
	return p
}

// hash writes the digest of text to d.sum.
func (d *digest) hash(text []byte) {
	d.mac.Reset()
	_, _ = d.mac.Write(text) // never fails
	d.mac.Sum(d.sum[:0])
}

// header is what stands before the nonce.
func (p *place) header() [headerLength]byte { return [headerLength]byte{redisVersion, p.id} }

func (p *place) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(p.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// extra is the additional data of the AEAD.
func (p *place) extra(space []byte) []byte {
	h := p.header()
	return append(append(space, h[:]...), p.name...)
}

// seal appends the value for this place that holds plain.
func (p *place) seal(b, plain []byte, rand io.Reader) ([]byte, error) {
	aead, err := p.aead()
	if err != nil {
		return nil, err
	}
	h := p.header()
	b = append(b, h[:]...)
	var nonce [nonceLength]byte
	if _, err := io.ReadFull(rand, nonce[:]); err != nil {
		return nil, err
	}
	b = append(b, nonce[:]...)
	var space [headerLength + nameLength]byte
	return aead.Seal(b, nonce[:], plain, p.extra(space[:0])), nil
}

var errDamaged = errors.New("cache: the value was not written by a holder of the Redis key for this place, or is damaged")

// open appends what is sealed in value. Its error says no more than that it is
// of no use here: damaged, of another place, another key or another version.
func (p *place) open(b, value []byte) ([]byte, error) {
	h := p.header()
	if len(value) < headerLength+nonceLength+tagLength || len(value) > maxRedisValue || [headerLength]byte(value[:headerLength]) != h {
		return nil, errDamaged
	}
	aead, err := p.aead()
	if err != nil {
		return nil, err
	}
	var space [headerLength + nameLength]byte
	nonce, sealed := value[headerLength:headerLength+nonceLength], value[headerLength+nonceLength:]
	plain, err := aead.Open(b, nonce, sealed, p.extra(space[:0]))
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}
