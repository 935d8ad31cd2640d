package authz

import (
	"strings"
	"unicode/utf8"
)

// cleanPath reports whether a path (without query) has one meaning for everyone
// who reads it. Envoy has normalised it; what is refused here is what Envoy
// lets pass and a back end may read in another way: parameters of segments
// (";"), backslashes, control and non-ASCII bytes, escapes that are invalid, are
// not UTF-8, or stand for one of "." "/" "\", a control character or DEL, also
// escaped again, and segments that are empty, "." or "..". One "/" at the end is
// no empty segment.
func cleanPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	escapes := false
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/':
			if !cleanStart(path[i+1:]) {
				return false
			}
		case c == '%':
			escapes = true
		case c <= ' ', c >= 0x7f, c == ';', c == '\\', c == '#', c == '?':
			return false
		}
	}
	return !escapes || cleanEscapes(path)
}

// cleanStart looks at the first segment of s.
func cleanStart(s string) bool {
	if s == "" {
		return true
	}
	switch s[0] {
	case '/':
		return false
	case '.':
		s = strings.TrimPrefix(s[1:], ".")
		return s != "" && s[0] != '/'
	default:
		return true
	}
}

// maxLayers is how often a path may be escaped over. Nobody needs more than
// two, and the work for each is bounded.
const maxLayers = 3

// cleanEscapes decodes layer by layer. In the outermost every "%" must start an
// escape; further in, one that does not is a plain character.
func cleanEscapes(path string) bool {
	for layer := range maxLayers {
		decoded, found, ok := unescape(path, layer == 0)
		if !ok {
			return false
		}
		if !found {
			return true
		}
		path = decoded
	}
	return strings.IndexByte(path, '%') < 0
}

// unescape decodes the escapes of s. It is not ok if one stands for what must
// not be hidden, if the result is not UTF-8, or, with strict, if one is
// invalid.
func unescape(s string, strict bool) (decoded string, found, ok bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			value, valid := escape(s[i:])
			switch {
			case valid && hidden(value):
				return "", false, false
			case valid:
				c, found = value, true
				i += 2
			case strict:
				return "", false, false
			}
		}
		out = append(out, c)
	}
	return string(out), found, utf8.Valid(out)
}

// hidden reports whether c must not be spelled as an escape.
func hidden(c byte) bool {
	return c < ' ' || c == 0x7f || c == '.' || c == '/' || c == '\\'
}

// escape decodes the "%XX" that s starts with.
func escape(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	hi, ok := hexDigit(s[1])
	lo, ok2 := hexDigit(s[2])
	return hi<<4 | lo, ok && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}
