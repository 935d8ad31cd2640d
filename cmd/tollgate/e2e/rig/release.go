package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var release struct {
	once sync.Once
	dir  string
	path string
	name string
	err  error
}

// Release returns the path of the tollgate that this one replaces, and what it
// is called: $OLD_TOLLGATE if that is set, a binary; otherwise it is built from
// the commit $OLD_COMMIT, by default the newest tag that is an ancestor of this
// tree, or if there is none the commit before. A clone without that history
// fails the test.
func Release(t testing.TB) (path, name string) {
	t.Helper()
	release.once.Do(func() {
		if release.path = os.Getenv("OLD_TOLLGATE"); release.path != "" {
			release.name = release.path
			return
		}
		if release.dir, release.err = os.MkdirTemp("", "tollgate-old-"); release.err == nil {
			release.path, release.name, release.err = buildRelease(release.dir, os.Getenv("OLD_COMMIT"))
		}
	})
	if release.err != nil {
		t.Fatalf("no older tollgate to run with: %v\nfetch the history (git fetch --unshallow), or set OLD_TOLLGATE to a binary", release.err)
	}
	return release.path, release.name
}

func buildRelease(dir, commit string) (path, name string, err error) {
	if commit == "" {
		if commit, err = command("", "git", "describe", "--tags", "--abbrev=0", "HEAD~1"); err != nil {
			commit = "HEAD~1"
		}
	}
	if name, err = command("", "git", "log", "-1", "--format=%h %s", commit); err != nil {
		return "", "", err
	}
	root, err := command("", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", "", err
	}
	// An export, not a work tree: nothing is left in the repository.
	tree, archive := filepath.Join(dir, "tree"), filepath.Join(dir, "tree.tar")
	for _, c := range [][]string{
		{"git", "-C", root, "archive", "--format=tar", "-o", archive, commit}, {"mkdir", tree}, {"tar", "-xf", archive, "-C", tree},
	} {
		if _, err = command("", c...); err != nil {
			return "", "", err
		}
	}
	path = filepath.Join(dir, "tollgate")
	_, err = command(tree, "go", "build", "-o", path, "./cmd/tollgate")
	return path, name, err
}

func command(dir string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
