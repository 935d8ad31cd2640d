package apis

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

func api(resources ...keymanager.Resource) *API {
	for i := range resources {
		if resources[i].AuthType == "" {
			resources[i].AuthType = keymanager.AuthAny
		}
	}
	return compile(&keymanager.API{
		ID: "a", Context: "/c", Version: "1", State: keymanager.StatePublished, Resources: resources,
	})
}

func TestMatch(t *testing.T) {
	a := api(
		keymanager.Resource{Method: "GET", Path: "/"},
		keymanager.Resource{Method: "GET", Path: "/items"},
		keymanager.Resource{Method: "*", Path: "/items/{id}"},
		keymanager.Resource{Method: "GET", Path: "/items/{id}"},
		keymanager.Resource{Method: "POST", Path: "/items/new"},
		keymanager.Resource{Method: "GET", Path: "/items/{id}/parts/{part}"},
		keymanager.Resource{Method: "GET", Path: "/items/top/*"},
		keymanager.Resource{Method: "GET", Path: "/files/*"},
		keymanager.Resource{Method: "GET", Path: "/files/secret"},
		keymanager.Resource{Method: "GET", Path: "/mail/a@b"},
		keymanager.Resource{Method: "GET", Path: "/mail/*"},
	)
	if a.Broken != nil {
		t.Fatal(a.Broken)
	}
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/c/1", "GET /"},
		{"GET", "/c/1/", "GET /"},
		{"POST", "/c/1", ""},
		{"GET", "/c/1x", ""},
		{"GET", "/c", ""},
		{"GET", "/C/1/items", ""},
		{"GET", "/c/1/items", "GET /items"},
		{"GET", "/c/1/items/", ""},
		{"GET", "/c/1/ITEMS", ""},
		{"GET", "/c/1/items/7", "GET /items/{id}"},
		{"GET", "/c/1/items/new", "GET /items/{id}"}, // POST alone is for the plain one
		{"POST", "/c/1/items/new", "POST /items/new"},
		{"PATCH", "/c/1/items/new", "* /items/{id}"},
		{"PATCH", "/c/1/items/7", "* /items/{id}"},
		{"GET", "/c/1/items/7/parts/x", "GET /items/{id}/parts/{part}"},
		{"GET", "/c/1/items/7/parts", ""},
		{"GET", "/c/1/items/7/parts/", ""},
		{"GET", "/c/1/items/top/parts/x", "GET /items/top/*"},
		{"GET", "/c/1/items/top", "GET /items/top/*"},
		{"PUT", "/c/1/items/top/parts/x", ""},
		{"GET", "/c/1/files", "GET /files/*"},
		{"GET", "/c/1/files/", "GET /files/*"},
		{"GET", "/c/1/files/a/b/c", "GET /files/*"},
		{"GET", "/c/1/files/secret", "GET /files/secret"},
		{"GET", "/c/1/files/secret/", ""}, // another rule than without the slash
		{"GET", "/c/1/files/other/", "GET /files/*"},
		{"GET", "/c/1/filesx", ""},
		{"GET", "/c/1/mail/a@b", "GET /mail/a@b"},
		{"GET", "/c/1/mail/a@c", "GET /mail/*"},
		{"GET", "/c/1/mail/a%40c", "GET /mail/*"},
		{"GET", "/c/1/mail/a%40b", ""}, // means a plain segment, is not spelled so
		{"GET", "/c/1/mail/%61%40b", ""},
	} {
		got := ""
		if r := a.Match(tt.method, tt.path); r != nil {
			got = r.Method + " " + r.Path
		}
		if got != tt.want {
			t.Errorf("%s %s matches %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestRootWildcard(t *testing.T) {
	a := api(keymanager.Resource{Method: "GET", Path: "/*"})
	for _, path := range []string{"/c/1", "/c/1/", "/c/1/a", "/c/1/a/b/"} {
		if a.Match("GET", path) == nil {
			t.Errorf("/* does not match %s", path)
		}
	}
}

func TestBroken(t *testing.T) {
	for _, tt := range []struct {
		name string
		list []keymanager.Resource
	}{
		{"no slash", []keymanager.Resource{{Method: "GET", Path: "items"}}},
		{"empty path", []keymanager.Resource{{Method: "GET"}}},
		{"empty segment", []keymanager.Resource{{Method: "GET", Path: "/a//b"}}},
		{"final slash", []keymanager.Resource{{Method: "GET", Path: "/a/"}}},
		{"star inside", []keymanager.Resource{{Method: "GET", Path: "/a/*/b"}}},
		{"star in a segment", []keymanager.Resource{{Method: "GET", Path: "/a*"}}},
		{"variable in a segment", []keymanager.Resource{{Method: "GET", Path: "/{a}.json"}}},
		{"empty variable", []keymanager.Resource{{Method: "GET", Path: "/{}"}}},
		{"open variable", []keymanager.Resource{{Method: "GET", Path: "/{a"}}},
		{"escape", []keymanager.Resource{{Method: "GET", Path: "/a%20b"}}},
		{"no method", []keymanager.Resource{{Path: "/a"}}},
		{"unknown method", []keymanager.Resource{{Method: "BREW", Path: "/a"}}},
		{"unknown auth type", []keymanager.Resource{{Method: "GET", Path: "/a", AuthType: "Maybe"}}},
		{"twice", []keymanager.Resource{{Method: "GET", Path: "/a"}, {Method: "GET", Path: "/a"}}},
		{"twice by variable", []keymanager.Resource{{Method: "GET", Path: "/{a}"}, {Method: "GET", Path: "/{b}"}}},
		{"twice by star", []keymanager.Resource{{Method: "*", Path: "/*"}, {Method: "*", Path: "/*"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := api(tt.list...); a.Broken == nil {
				t.Error("is taken")
			}
		})
	}
	if a := compile(&keymanager.API{ID: "a"}); a.Broken == nil {
		t.Error("an API without a base path is taken")
	}
}

// linear is the promise in its simplest form: of the resources that match, the
// one whose template is the most specific.
func linear(resources []keymanager.Resource, method, path string) *keymanager.Resource {
	var best *keymanager.Resource
	bestRank := ""
	for i := range resources {
		r := &resources[i]
		if r.Method != method && r.Method != "*" {
			continue
		}
		rank, ok := matches(r.Path, path)
		if !ok {
			continue
		}
		rank += "\x00" + strings.Repeat("*", strings.Count(r.Method, "*")) // shorter first, then the method itself
		if best == nil || rank < bestRank {
			best, bestRank = r, rank
		}
	}
	return best
}

// matches returns one letter for each segment of the template: p(lain),
// v(ariable), w(ildcard).
func matches(template, path string) (rank string, ok bool) {
	if template == "/" {
		return "", path == "" || path == "/"
	}
	want := strings.Split(template[1:], "/")
	var have []string
	if path != "" && (path != "/" || template == "/*") {
		have = strings.Split(path[1:], "/")
	}
	for i, w := range want {
		switch {
		case w == "*":
			return rank + "w", true
		case i >= len(have) || have[i] == "":
			return "", false
		case w[0] == '{':
			rank += "v"
		case w != have[i]:
			return "", false
		default:
			rank += "p"
		}
	}
	return rank, len(have) == len(want)
}

var segments = rapid.SampledFrom([]string{"a", "b", "ab", "a@b", "{x}", "{y}"})

func templates(t *rapid.T) []keymanager.Resource {
	var list []keymanager.Resource
	seen := map[string]bool{}
	for range rapid.IntRange(1, 12).Draw(t, "resources") {
		path := "/" + strings.Join(rapid.SliceOfN(segments, 0, 4).Draw(t, "template"), "/")
		if rapid.IntRange(0, 3).Draw(t, "wild") == 0 {
			path = strings.TrimSuffix(path, "/") + "/*"
		}
		method := rapid.SampledFrom([]string{"GET", "POST", "*"}).Draw(t, "method")
		shape := method + strings.NewReplacer("{x}", "{}", "{y}", "{}").Replace(path)
		if !seen[shape] {
			seen[shape] = true
			list = append(list, keymanager.Resource{Method: method, Path: path, AuthType: keymanager.AuthAny})
		}
	}
	return list
}

// TestFinalSlashChoosesNoOtherRule: a path with one more "/" at the end has the
// rule of the path without it, or none. A back end may see no difference.
func TestFinalSlashChoosesNoOtherRule(t *testing.T) {
	a := api(
		keymanager.Resource{Method: "GET", Path: "/*", AuthType: keymanager.AuthNone},
		keymanager.Resource{Method: "GET", Path: "/admin", Scopes: []keymanager.Scope{"admin"}},
		keymanager.Resource{Method: "GET", Path: "/users/{id}", Scopes: []keymanager.Scope{"users"}},
		keymanager.Resource{Method: "GET", Path: "/open", AuthType: keymanager.AuthNone},
		keymanager.Resource{Method: "GET", Path: "/open/*", Scopes: []keymanager.Scope{"open"}},
	)
	for _, path := range []string{"/admin/", "/users/7/", "/open/"} {
		if r := a.Match("GET", "/c/1"+path); r != nil {
			t.Errorf("%s has the rule of %s", path, r.Path)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := api(templates(t)...)
		path := "/c/1/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "a@b", "c"}), 1, 4).Draw(t, "path"), "/")
		with, without := a.Match("GET", path+"/"), a.Match("GET", path)
		if with != nil && with != without {
			t.Fatalf("%s/ has the rule of %s, without the slash it is %s", path, show(with), show(without))
		}
	})
}

// TestHeadIsLikeGet: HEAD does not get by a wildcard at what GET needs a right
// for.
func TestHeadIsLikeGet(t *testing.T) {
	a := api(
		keymanager.Resource{Method: "*", Path: "/*", AuthType: keymanager.AuthNone},
		keymanager.Resource{Method: "GET", Path: "/admin", Scopes: []keymanager.Scope{"admin"}},
		keymanager.Resource{Method: "HEAD", Path: "/ping", AuthType: keymanager.AuthNone},
		keymanager.Resource{Method: "GET", Path: "/ping", Scopes: []keymanager.Scope{"ping"}},
	)
	for path, want := range map[string]string{"/admin": "nothing", "/other": "* /*", "/ping": "HEAD /ping"} {
		if got := show(a.Match("HEAD", "/c/1"+path)); got != want {
			t.Errorf("HEAD %s has the rule of %s, want %s", path, got, want)
		}
	}
}

func show(r *keymanager.Resource) string {
	if r == nil {
		return "nothing"
	}
	return r.Method + " " + r.Path
}

// TestMatchLikeLinear holds the tree against the linear matcher.
func TestMatchLikeLinear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := templates(t)
		a := api(list...)
		if a.Broken != nil {
			t.Fatal(a.Broken)
		}
		for range 20 {
			path := ""
			if n := rapid.IntRange(0, 5).Draw(t, "segments"); n > 0 {
				path = "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "a@b", "c"}), n, n).Draw(t, "path"), "/")
			}
			if rapid.IntRange(0, 4).Draw(t, "slash") == 0 {
				path += "/"
			}
			method := rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method")
			want := linear(list, method, path)
			if short, slash := strings.CutSuffix(path, "/"); slash && short != "" && show(want) != show(linear(list, method, short)) {
				want = nil
			}
			if got := a.Match(method, "/c/1"+path); show(got) != show(want) {
				t.Fatalf("%s %q of %v: tree %s, linear %s", method, path, list, show(got), show(want))
			}
		}
	})
}

// TestEscapesChooseNoOtherRule: whatever is spelled with escapes either has the
// rule of what it means, or none.
func TestEscapesChooseNoOtherRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := templates(t)
		a := api(list...)
		var meant, spelled strings.Builder
		for range rapid.IntRange(1, 4).Draw(t, "segments") {
			meant.WriteByte('/')
			spelled.WriteByte('/')
			for _, c := range []byte(rapid.SampledFrom([]string{"a", "b", "ab", "a@b", "a$"}).Draw(t, "segment")) {
				meant.WriteByte(c)
				switch rapid.IntRange(0, 2).Draw(t, "spelling") {
				case 0:
					fmt.Fprintf(&spelled, "%%%02x", c)
				case 1:
					fmt.Fprintf(&spelled, "%%%02X", c)
				default:
					spelled.WriteByte(c)
				}
			}
		}
		got := a.Match("GET", "/c/1"+spelled.String())
		if got != nil && got != linearIn(a, list, meant.String()) {
			t.Fatalf("%s of %v has the rule %s, and %s has %s", spelled.String(), list, show(got), meant.String(), show(linear(list, "GET", meant.String())))
		}
	})
}

// linearIn returns the tree's own resource for what linear finds.
func linearIn(a *API, list []keymanager.Resource, path string) *keymanager.Resource {
	if linear(list, "GET", path) == nil {
		return nil
	}
	return a.Match("GET", "/c/1"+path)
}

func TestDecodesTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`([a-c@]|%[2-7][0-9a-fA-F]){0,6}`).Draw(t, "escaped")
		want, err := url.PathUnescape(s)
		if err != nil {
			t.Fatal(err)
		}
		if !decodesTo(s, want) || decodesTo(s, want+"x") {
			t.Fatalf("%q does not decode to %q alone", s, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	var list []keymanager.Resource
	for i := range 200 {
		list = append(list, keymanager.Resource{Method: "GET", Path: fmt.Sprintf("/r%03d/{id}/part", i)})
	}
	a := api(list...)
	b.ReportAllocs()
	for b.Loop() {
		if a.Match("GET", "/c/1/r117/4711/part") == nil {
			b.Fatal("no match")
		}
	}
}
