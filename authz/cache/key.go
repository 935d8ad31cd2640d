package cache

import (
	"crypto/sha256"
	"encoding/binary"

	"tollgate/keymanager"
)

// Key identifies a query in a cache: 128 bits of the SHA-256 of the kind of
// credential, the API and the credential. What is hashed is an injective
// encoding, and nobody chooses credentials that are looked up (their tag is
// ours), so no two queries share a key. The credential cannot be read back.
type Key [16]byte

// KeyOf returns the key of q. Since is no part of it.
func KeyOf(q keymanager.Query) Key {
	var space [256]byte
	sum := sha256.Sum256(appendQuery(space[:0], q))
	return Key(sum[:])
}

// appendQuery appends the injective encoding of q, without Since.
func appendQuery(b []byte, q keymanager.Query) []byte {
	b = append(b, byte(q.Credential.Kind))
	b = binary.AppendUvarint(b, uint64(len(q.API)))
	b = append(b, q.API...)
	return append(b, q.Credential.Value...)
}

// shard chooses one of n places, a power of two.
func (k *Key) shard(n int) int { return int(k[0]) & (n - 1) }

// spread returns a number from -1 to 1 that depends on the key alone.
func (k *Key) spread() float64 {
	return float64(binary.LittleEndian.Uint16(k[1:]))/(1<<15) - 1
}
