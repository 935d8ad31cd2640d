//go:build !short

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/cmd/tollgate/e2e/rig"
)

var update = flag.Bool("update", false, "write what the commands of the quickstart answer into it")

const quickstart = "../../../docs/quickstart.md"

// TestQuickstart runs every command of docs/quickstart.md, in one shell and in
// order, and holds what comes back against what the document says. Tokens, ids
// and times may differ.
func TestQuickstart(t *testing.T) {
	text, err := os.ReadFile(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	doc := parseGuide(string(text))
	r := rig.New(t)
	p := r.Dev()
	p.WaitOutput(readyLine)
	work := guideFolder(t, r)

	// The document has the default addresses; this run has others.
	addresses := []string{
		"127.0.0.1:8080", r.Gateway, "127.0.0.1:9090", r.KeyManager, "127.0.0.1:9091", r.Ops,
		"127.0.0.1:9081", r.Production, "127.0.0.1:9082", r.Sandbox,
	}
	var back []string
	for i := 0; i < len(addresses); i += 2 {
		back = append(back, addresses[i+1], addresses[i])
	}
	here, there := strings.NewReplacer(addresses...), strings.NewReplacer(back...)

	answers := runGuide(t, work, doc, here)
	changed := false
	for i, b := range doc.blocks {
		got := there.Replace(answers[i])
		if diff := cmp.Diff(maskGuide(b.answer), maskGuide(got)); diff != "" {
			if !*update {
				t.Errorf("after\n%s\nthe document says (-) and the program said (+):\n%s", b.commands, diff)
				continue
			}
			doc.blocks[i].answer, changed = got, true
		}
	}
	if changed {
		if err := os.WriteFile(quickstart, []byte(doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// guide is a document with commands in it.
type guide struct {
	blocks []guideBlock
	after  string // text after the last block
}

// guideBlock is a block of commands and the block of text that follows it.
type guideBlock struct {
	before   string // text before the commands
	commands string
	answer   string
}

const (
	fenceCommands = "```sh\n"
	fenceAnswer   = "```text\n"
	fenceEnd      = "```\n"
)

// parseGuide finds the blocks. One after "<!-- by hand -->" is not run.
func parseGuide(text string) *guide {
	g := &guide{}
	before := ""
	for {
		start := strings.Index(text, fenceCommands)
		if start < 0 {
			g.after = before + text
			return g
		}
		before += text[:start]
		text = text[start+len(fenceCommands):]
		end := strings.Index(text, fenceEnd)
		b := guideBlock{before: before, commands: text[:end]}
		text = text[end+len(fenceEnd):]
		if strings.HasSuffix(before, "<!-- by hand -->\n") {
			before += fenceCommands + b.commands + fenceEnd
			continue
		}
		if rest, ok := strings.CutPrefix(text, fenceAnswer); ok {
			end = strings.Index(rest, fenceEnd)
			b.answer, text = rest[:end], rest[end+len(fenceEnd):]
		}
		g.blocks = append(g.blocks, b)
		before = ""
	}
}

// String is the inverse of parseGuide.
func (g *guide) String() string {
	var b strings.Builder
	for _, block := range g.blocks {
		b.WriteString(block.before + fenceCommands + block.commands + fenceEnd)
		if block.answer != "" {
			b.WriteString(fenceAnswer + block.answer + fenceEnd)
		}
	}
	return b.String() + g.after
}

// guideFolder returns a folder that looks to the commands like the one that
// make run was started in.
func guideFolder(t *testing.T, r *rig.Rig) string {
	t.Helper()
	work := t.TempDir()
	if err := os.Symlink(r.State, filepath.Join(work, ".tollgate")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(work, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(rig.Binary(t), filepath.Join(work, "bin", "tollgate")); err != nil {
		t.Fatal(err)
	}
	return work
}

// runGuide runs all commands in one shell and returns what each block printed.
func runGuide(t *testing.T, work string, g *guide, here *strings.Replacer) []string {
	t.Helper()
	const mark = "=== end of block"
	var script strings.Builder
	for _, b := range g.blocks {
		fmt.Fprintf(&script, "%s\necho; echo '%s'\n", here.Replace(b.commands), mark)
	}
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Stdin = work, strings.NewReader(script.String())
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	kill := time.AfterFunc(2*rig.Patience, func() { _ = cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	kill.Stop()
	if err != nil {
		t.Fatalf("sh: %v\n%s", err, out)
	}
	parts := strings.Split(string(out), "\n"+mark+"\n")
	if len(parts) != len(g.blocks)+1 {
		t.Fatalf("%d of %d blocks were run\n%s", len(parts)-1, len(g.blocks), out)
	}
	for i, p := range parts {
		// curl writes lines that end in CR LF
		parts[i] = strings.TrimRight(strings.ReplaceAll(p, "\r\n", "\n"), "\n") + "\n"
	}
	return parts[:len(g.blocks)]
}

// guideMasks are what differs from run to run.
var guideMasks = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`tg(at|cs|ak)_[A-Za-z0-9_-]+`), "tg${1}_"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\b[0-9a-f]{32}(:\d+)?\b`), "<id>"},
	{regexp.MustCompile(`\b[a-z2-7]{26}\b`), "<consumer key>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "<time>"},
	{regexp.MustCompile(`(?m)^(date|content-length): .*$`), "$1:"},
	{regexp.MustCompile(`"(x-forwarded-for|user-agent)": ".*"`), `"$1"`},
	{regexp.MustCompile(`\b(authz|xds)-\S+-\d+`), "$1-<host>-<pid>"},
	{regexp.MustCompile(`envoy \d+\.\d+\.\d+`), "envoy <version>"},
	{regexp.MustCompile(`\S{4}( +127\.0\.0\.0/8)`), "<last 4>$1"},
	{regexp.MustCompile(`(LIVE|STALE) +[0-9.]+m?s\b`), "$1  <lag>"}, // how long ago a part was last at the end of the log
	{regexp.MustCompile(` {2,}`), "  "},
}

func maskGuide(s string) string {
	for _, m := range guideMasks {
		s = m.pattern.ReplaceAllString(s, m.mask)
	}
	return s
}
