package authz

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCleanPath(t *testing.T) {
	for _, path := range []string{
		"/", "/a", "/a/", "/a/b.c", "/.a", "/..a", "/...", "/a..", "/a/.b/c", "/a%20b", "/%C3%BC", "/%c3%bc", "/%41", "/a@b:c,d=e&f$g!h'(i)*+",
		"/%23b", "/%3Fx", "/%3b", "/%25", "/100%25", "/%2541", "/%25zz", "/a~b_c-d", "/%E2%82%AC/x", "/[a]", "/{a}",
	} {
		if !cleanPath(path) {
			t.Errorf("%s is refused", path)
		}
	}
	bad := []string{
		"", "a", "*", "//", "/a//b", "//a", "/a//", "/.", "/..", "/./a", "/../a", "/a/./b", "/a/../b", "/a/.", "/a/..",
		"/a;x=1", "/;", "/a\\b", "/a#b", "/a?b", "/a b", "/a\tb", "/a\x00b", "/a\x7fb", "/a\x80", "/ü", "/a\r\n",
		"/%zz", "/%", "/a%", "/%4", "/%u002f", "/%C0%AF", "/%c3", "/%ff", "/%C3/%BC", "/%C3x%BC", "/%ED%A0%80", "/%F5%80%80%80",
		"/%2525252e", // deeper than anybody needs
	}
	for _, hidden := range []string{"2e", "2f", "5c", "7f", "00", "01", "0a", "0d", "1f"} {
		for _, spelled := range []string{hidden, strings.ToUpper(hidden)} {
			bad = append(bad, "/a%"+spelled+"b", "/%25"+spelled, "/a%2525"+spelled, "/%25"+fmt.Sprintf("%%%02x%%%02x", spelled[0], spelled[1]))
		}
	}
	for _, path := range bad {
		if cleanPath(path) {
			t.Errorf("%q is taken", path)
		}
	}
}

// TestCleanPathMeansOneThing: however often a clean path is decoded, it keeps
// its segments.
func TestCleanPathMeansOneThing(t *testing.T) {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "B", "/", ".", "..", "%", "%2", "25", "2f", "2F", "%2e", "%5C", ";", "\\", "%C3%BC", "%C0%AF", "%20", "%00", "\x80"}),
		rapid.StringMatching(`%[0-9a-fA-F]{2}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "")
		if !cleanPath(path) {
			return
		}
		slashes := strings.Count(path, "/")
		for decoded := path; ; {
			next, err := url.PathUnescape(decoded)
			if err != nil {
				next = loose(decoded)
			}
			if strings.Count(next, "/") != slashes || strings.Contains(next, "\\") || !utf8.ValidString(next) || strings.ContainsFunc(next, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("%q comes out as %q", path, next)
			}
			for _, s := range strings.Split(next, "/") {
				if s == "." || s == ".." {
					t.Fatalf("%q comes out as %q", path, next)
				}
			}
			if next == decoded {
				return
			}
			decoded = next
		}
	})
}

// loose decodes what can be decoded.
func loose(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := escape(s[i:]); s[i] == '%' && ok {
			b.WriteByte(c)
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func TestLongPathsAreCheap(t *testing.T) {
	if cleanPath("/%" + strings.Repeat("25", 100_000) + "2f") {
		t.Error("taken")
	}
	if !cleanPath("/" + strings.Repeat("a/", 100_000)) {
		t.Error("refused")
	}
}
