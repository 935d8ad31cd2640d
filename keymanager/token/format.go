package token

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"tollgate/keymanager"
)

// The prefixes of the kinds of credential, all of one length.
const (
	PrefixAccessToken  = "tgat_"
	PrefixClientSecret = "tgcs_"
	PrefixAPIKey       = "tgak_"
)

// Length is the number of characters of every credential.
const Length = prefixLen + textLen + sumLen

const (
	prefixLen = 5
	textLen   = 59 // of the body in base64url without padding
	sumLen    = 6  // of the CRC

	version   = 1
	randomLen = 24
	tagLen    = 16
	headLen   = 1 + 1 + 2 + randomLen // what the tag covers, after the prefix
	bodyLen   = headLen + tagLen

	atVersion = 0
	atKeyID   = 1
	atDomain  = 2
	atRandom  = 4

	primaryDomain = 0
)

// encoding refuses unused bits that are not zero. It skips line breaks, which
// the length of the result gives away.
var encoding = base64.RawURLEncoding.Strict()

// prefixOf returns "" for a kind that has no opaque form.
func prefixOf(kind keymanager.CredentialKind) string {
	switch kind {
	case keymanager.AccessToken:
		return PrefixAccessToken
	case keymanager.APIKeyCredential:
		return PrefixAPIKey
	default:
		return ""
	}
}

// parse decodes the body of value into body, and reports whether value is well
// formed and of the kind that prefix says. It does not look at the tag. text
// is scratch space.
func parse(body *[bodyLen]byte, text *[Length]byte, prefix, value string) bool {
	if len(value) != Length || value[:prefixLen] != prefix {
		return false
	}
	copy(text[:], value)
	if checksum(text[:prefixLen+textLen]) != [sumLen]byte(text[prefixLen+textLen:]) {
		return false
	}
	n, err := encoding.Decode(body[:], text[prefixLen:prefixLen+textLen])
	return err == nil && n == bodyLen &&
		body[atVersion] == version && binary.BigEndian.Uint16(body[atDomain:]) == primaryDomain
}

// format writes the characters of a credential to text.
func format(text *[Length]byte, prefix string, body *[bodyLen]byte) {
	copy(text[:], prefix)
	encoding.Encode(text[prefixLen:], body[:])
	sum := checksum(text[:prefixLen+textLen])
	copy(text[prefixLen+textLen:], sum[:])
}

func checksum(text []byte) [sumLen]byte {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], crc32.ChecksumIEEE(text))
	var out [sumLen]byte
	encoding.Encode(out[:], raw[:])
	return out
}
