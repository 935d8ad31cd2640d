// Package token makes and recognises the credentials that the key manager
// generates: access tokens, client secrets and API keys.
//
// A credential proves that it is ours before anything is looked up:
//
//	prefix base64url( version | key id | domain | random | tag ) base64url( CRC-32 )
//	tgat_           1 byte      1        2        24       16                 4
//
// 70 characters in all. The prefix tells the kind (tgat_ access token, tgcs_
// client secret, tgak_ API key). The tag is the first half of the HMAC-SHA256,
// under the tag key that the key id names, of the prefix and all bytes before
// the tag; who holds the key can make a look-up happen but cannot make it
// succeed, since only the digest of a credential that was issued is stored.
// The domain is that of the user store that the token's user lives in, 0 for
// the key manager's own. The CRC (IEEE) is over all characters before it; it is
// no protection, it lets scanners of leaked secrets recognise ours offline.
//
// Each credential has exactly one spelling: no padding, no unused bits, no
// other length.
//
// What is stored of a credential is its Digest: an HMAC-SHA256 under a pepper,
// with the pepper's id. Authz holds the tag keys, never the peppers.
package token
