package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseManifest(t *testing.T) {
	const text = `# two documents
kind: API
organization: default
name: pets
spec:
  version: 1.0.0
  timeout: 30
  ratio: 1e3
  since: 2024-01-01
  on: true
  none: null
  resources:
    - method: GET
      path: /pets
    - {method: POST, path: "/a~b/c"}
---

---
{"kind": "Tier", "name": "Gold", "spec": {"requests": 5000}}
`
	docs, err := parseManifest("m.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 2 {
		t.Fatalf("%d documents", len(docs))
	}
	want := `{"kind":"API","organization":"default","name":"pets","spec":{"version":"1.0.0","timeout":30,"ratio":1e3,` +
		`"since":"2024-01-01","on":true,"none":null,"resources":[{"method":"GET","path":"/pets"},{"method":"POST","path":"/a~b/c"}]}}`
	if got := string(docs[0].JSON); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if docs[1].Kind != "Tier" || docs[1].Name != "Gold" {
		t.Errorf("second document: %+v", docs[1])
	}
	for pointer, line := range map[string]int{
		"":                         2,
		"/kind":                    2,
		"/spec":                    5,
		"/spec/version":            6,
		"/spec/resources/0/method": 13,
		"/spec/resources/0/path":   14,
		"/spec/resources/1/path":   15,
		"/spec/resources/2":        12, // not there: the list
		"/spec/missing":            5,
		"/nowhere/at/all":          2,
	} {
		if got := docs[0].Line(pointer); got != line {
			t.Errorf("Line(%q) = %d, want %d", pointer, got, line)
		}
	}
}

func TestParseManifestRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unknown top-level key", "kind: API\nmetadata: {}\n", `m.yaml:2: unknown key "metadata"`},
		{"no kind", "name: x\n", "m.yaml:1: kind is missing"},
		{"not a mapping", "- a\n- b\n", "m.yaml:1: a document is a mapping"},
		{"duplicate key", "kind: API\nspec:\n  a: 1\n  b: 2\n  a: 3\n", `m.yaml:5: key "a" is already set in line 3`},
		{"duplicate top-level key", "kind: API\nkind: Tier\n", `m.yaml:2: key "kind" is already set in line 1`},
		{"syntax", "kind: API\nspec: [\n", "m.yaml:"},
		{"infinity", "kind: API\nspec: {a: .inf}\n", "m.yaml:2:"},
		{"a tag of one's own", "kind: API\nspec: {a: !x y}\n", "m.yaml:2: the tag !x is not allowed"},
		{"merge key", "kind: API\nspec: {<<: {a: 1}}\n", "m.yaml:2: a key must be a plain text"},
		{"an alias of itself", "kind: API\nspec: &s\n  a: *s\n", "m.yaml:"},
		{"a bomb", "kind: API\nspec:\n  a: &a [1,1,1,1,1,1,1,1,1,1]\n" + bomb(), "too large or too deep"},
		{"too deep", "kind: API\nspec: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "too large or too deep"},
		{"two errors are both named", "kind: API\nx: 1\n---\nname: y\n", "m.yaml:4: kind is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseManifest("m.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
		})
	}
}

// bomb is ten aliases of ten aliases, and so on: small to read, vast to expand.
func bomb() string {
	var b strings.Builder
	for c := 'b'; c <= 'k'; c++ {
		b.WriteString("  " + string(c) + ": &" + string(c) + " [")
		b.WriteString(strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
		b.WriteString("]\n")
	}
	return b.String()
}

func TestReadManifests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml": "kind: B\n", "a.yml": "kind: A\n---\nkind: A2\n", "c.json": `{"kind": "C"}`, "notes.txt": "kind: X\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := readManifests([]string{dir, "-"}, strings.NewReader("kind: In\n"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range docs {
		kinds = append(kinds, d.Kind)
	}
	if got := strings.Join(kinds, " "); got != "A A2 B C In" {
		t.Errorf("kinds %s", got)
	}
	for _, paths := range [][]string{{filepath.Join(dir, "none")}, {t.TempDir()}, {"-"}} {
		if _, err := readManifests(paths, strings.NewReader("# nothing\n")); err == nil {
			t.Errorf("%v: no error", paths)
		}
	}
}
