package rig

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// secrets is what nobody may read in a log or a metric.
type secrets struct {
	mu   sync.Mutex
	list []string
}

// Secret notes something that no process may write anywhere.
func (r *Rig) Secret(all ...string) {
	r.secrets.mu.Lock()
	defer r.secrets.mu.Unlock()
	r.secrets.list = append(r.secrets.list, all...)
}

// KeepsSecrets fails the test for each secret that is in what a process has
// written and in its metrics: every token that was issued, what
// Secret was told, and what is in the key files of the fleet.
func (f *Fleet) KeepsSecrets(t testing.TB) {
	t.Helper()
	f.secrets.mu.Lock()
	list := slices.Clone(f.secrets.list)
	f.secrets.mu.Unlock()
	shared, _ := filepath.Glob(filepath.Join(f.keys, "*.key"))
	for _, file := range append(shared, f.private...) {
		for line := range strings.Lines(read(file)) {
			if fields := strings.Fields(line); len(fields) > 0 && len(fields[len(fields)-1]) > 30 {
				list = append(list, fields[len(fields)-1])
			}
		}
	}
	if len(list) < 5 {
		t.Errorf("only %d secrets are known", len(list))
	}
	for what, text := range f.written() {
		for _, secret := range list {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds a secret: …%.60s…", what, text[max(0, i-200):i])
			}
		}
	}
}

// written is everything that the processes have written, and the metrics of
// those that live.
func (f *Fleet) written() map[string]string {
	out := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(f.Logs, "*"))
	for _, file := range files {
		out[filepath.Base(file)] = read(file)
	}
	for _, n := range f.Nodes() {
		for _, path := range []string{"/metrics", "/stats/prometheus"} {
			if a, err := Do(http.MethodGet, "http://"+n.Ops+path); err == nil && a.Status == http.StatusOK {
				out[n.Name+path] = a.Body
			}
		}
	}
	return out
}

// logLine is a line that a tollgate has logged.
var logLine = regexp.MustCompile(`(?m)^time=(\S+) level=(WARN|ERROR) msg=("(?:[^"\\]|\\.)*"|\S+)`)

// LogsLittle fails the test for each cause of which a process has logged more
// than limit lines in any ten seconds, at level warning or above.
func (f *Fleet) LogsLittle(t testing.TB, limit int) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(f.Logs, "*.stderr"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := map[string][]time.Time{}
		for _, m := range logLine.FindAllStringSubmatch(string(data), -1) {
			if when, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
				at[m[2]+" "+m[3]] = append(at[m[2]+" "+m[3]], when)
			}
		}
		for cause, times := range at {
			if n := densest(times, 10*time.Second); n > limit {
				t.Errorf("%s: %d lines in ten seconds: %s", filepath.Base(file), n, cause)
			}
		}
	}
}

// densest is how many of the times are within one span.
func densest(times []time.Time, span time.Duration) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	first := 0
	for i, at := range times {
		for at.Sub(times[first]) >= span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Metric returns the value of a metric of a node as text, "" if there is none.
// name holds the labels too.
func (n *Node) Metric(name string) (string, error) {
	a, err := Do(http.MethodGet, "http://"+n.Ops+"/metrics")
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%s answers %d", n.Name, a.Status)
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(a.Body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", nil
}
