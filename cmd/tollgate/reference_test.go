package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the references in docs")

//go:generate go test -tags short -count=1 -run ^TestReference$ . -update

// The references in docs are made from what they describe: the settings from
// the shipped file (which another test holds against the defaults), the
// management API from its OpenAPI document and its types.
func TestReference(t *testing.T) {
	d := referenceDaemon(t)
	for _, r := range []struct{ file, what, text string }{
		{"operations.md", "settings", settingsTable(t)},
		{"api.md", "operations", operationsTable(t, d)},
		{"api.md", "schemas", schemaTables(t)},
	} {
		t.Run(r.what, func(t *testing.T) { holdReference(t, r.file, r.what, r.text) })
	}
}

// holdReference compares the part of a document between two comments with what
// it must be, or writes it.
func holdReference(t *testing.T, name, what, want string) {
	t.Helper()
	begin := fmt.Sprintf("<!-- %s: written by make generate -->\n", what)
	end := fmt.Sprintf("<!-- end of %s -->\n", what)
	file := filepath.Join("..", "..", "docs", name)
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the %s, between %q and %q", file, what, begin, end)
	}
	diff := cmp.Diff(got, want)
	switch {
	case diff == "":
	case *update:
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is behind; run make generate (-is +must be)\n%s", file, diff)
	}
}

// settingsTable has a row for each setting, in the order of the file.
func settingsTable(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "embedded.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| setting | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	settingRows(t, &b, "", root.Content[0].Content)
	return b.String()
}

// settingRows writes a row for each key and value of a section.
func settingRows(t *testing.T, b *strings.Builder, prefix string, keys []*yaml.Node) {
	t.Helper()
	for j := 0; j < len(keys); j += 2 {
		key, value := prefix+keys[j].Value, keys[j+1]
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 {
			settingRows(t, b, key+".", value.Content)
			continue
		}
		comment := value.LineComment
		if comment == "" {
			comment = keys[j].LineComment
		}
		if comment == "" {
			t.Errorf("%s is not explained in deploy/embedded.yaml", key)
		}
		name := "`" + variable(key) + "`"
		if strings.Contains(comment, "(file only)") {
			name, comment = "", strings.TrimSuffix(strings.TrimSpace(comment), "(file only)")
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, name, settingDefault(value), cellText(strings.TrimLeft(comment, "# ")))
	}
}

// settingDefault writes a value as it would be typed into the environment.
func settingDefault(value *yaml.Node) string {
	shown := value.Value
	if value.Kind == yaml.SequenceNode {
		var list []string
		for _, e := range value.Content {
			list = append(list, e.Value)
		}
		shown = strings.Join(list, ",")
	}
	if shown == "" {
		return ""
	}
	return "`" + shown + "`"
}

// cellText is a text in a cell of a Markdown table.
func cellText(s string) string {
	return strings.TrimSpace(strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(s))
}
