package authz

import "google.golang.org/protobuf/encoding/protowire"

// What of the protobuf encoding (protobuf.dev, Encoding) is needed to read a
// message in place, as parts of one string, and to append to one.

// each calls f with every length-delimited field of an encoded message until
// it returns false, and reports whether all was well.
func each(message string, f func(field int, value string) bool) bool {
	for message != "" {
		field, v, rest, ok := next(message)
		if !ok || field != 0 && !f(field, v) {
			return false
		}
		message = rest
	}
	return true
}

// next splits the first field off an encoded message (protobuf.dev, Encoding).
// For a field that is not length-delimited, field is 0 and the value skipped.
func next(message string) (field int, value, rest string, ok bool) {
	tag, rest, ok := varint(message)
	if !ok || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return 0, "", "", false
	}
	var size uint64
	switch tag & 7 {
	case 0: // varint
		_, rest, ok = varint(rest)
		return 0, "", rest, ok
	case 1: // 64 bits
		size = 8
	case 2: // length-delimited
		if size, rest, ok = varint(rest); !ok || size > uint64(len(rest)) {
			return 0, "", "", false
		}
		return int(tag >> 3), rest[:size], rest[size:], true
	case 5: // 32 bits
		size = 4
	default: // groups are not used in these messages
		return 0, "", "", false
	}
	if size > uint64(len(rest)) {
		return 0, "", "", false
	}
	return 0, "", rest[size:], true
}

// varint reads a base-128 number of at most 64 bits.
func varint(s string) (n uint64, rest string, ok bool) {
	for i := 0; i < len(s) && i < 10; i++ {
		c := s[i]
		if i == 9 && c > 1 {
			return 0, "", false
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n, s[i+1:], true
		}
	}
	return 0, "", false
}

func appendString(b []byte, field int, s string) []byte {
	b = append(b, byte(field<<3|2))
	b = protowire.AppendVarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendVarint(b []byte, field int, n uint64) []byte {
	return protowire.AppendVarint(append(b, byte(field<<3)), n)
}

// fieldSize is the size of a length-delimited field with n bytes and a number
// below 16.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

// openMessage begins a nested message; closeMessage puts its length before it.
func openMessage(b []byte, field int) ([]byte, int) {
	b = append(b, byte(field<<3|2))
	return b, len(b)
}

func closeMessage(b []byte, at int) []byte {
	n := len(b) - at
	size := protowire.SizeVarint(uint64(n))
	b = append(b, "0123456789"[:size]...) // room
	copy(b[at+size:], b[at:at+n])
	protowire.AppendVarint(b[:at], uint64(n))
	return b
}
