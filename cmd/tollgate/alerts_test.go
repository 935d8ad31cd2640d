package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
)

// alertRules is what a file of rules may say: that much of Prometheus' format.
type alertRules struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string        `yaml:"alert"`
			Expr        string        `yaml:"expr"`
			For         time.Duration `yaml:"for"`
			Labels      struct{ Severity string }
			Annotations struct{ Summary string }
		} `yaml:"rules"`
	} `yaml:"groups"`
}

// Every alarm is explained in the operator's document under its name, nothing
// else is, and each asks for metrics that there are.
func TestAlarmsAreDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "alerts", "tollgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules alertRules
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	known := exposedMetrics(t)
	var alarms []string
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			alarms = append(alarms, r.Alert)
			if s := r.Labels.Severity; s != "page" && s != "ticket" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if r.Annotations.Summary == "" {
				t.Errorf("%s has no summary", r.Alert)
			}
			for _, name := range regexp.MustCompile(`\btollgate_\w+`).FindAllString(r.Expr, -1) {
				if !known[name] && !known[strings.TrimSuffix(name, "_bucket")] {
					t.Errorf("%s: there is no metric %s", r.Alert, name)
				}
			}
			for _, pair := range []string{"()", "[]", "{}"} {
				if strings.Count(r.Expr, pair[:1]) != strings.Count(r.Expr, pair[1:]) {
					t.Errorf("%s: unequal %s in %s", r.Alert, pair, r.Expr)
				}
			}
		}
	}
	var explained []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(Tollgate\\w+)` \\|").FindAllStringSubmatch(readDoc(t, "operations.md"), -1) {
		explained = append(explained, m[1])
	}
	slices.Sort(alarms)
	slices.Sort(explained)
	if diff := cmp.Diff(alarms, explained); diff != "" {
		t.Errorf("alarms of deploy/alerts (-), and those of docs/operations.md (+)\n%s", diff)
	}
}

// exposedMetrics are the names of all metrics of ours.
func exposedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	descs := make(chan *prometheus.Desc, 1000)
	referenceDaemon(t).metrics.Describe(descs)
	close(descs)
	known := map[string]bool{}
	for desc := range descs {
		if m := regexp.MustCompile(`fqName: "(tollgate_\w+)"`).FindStringSubmatch(desc.String()); m != nil {
			known[m[1]] = true
		}
	}
	return known
}
