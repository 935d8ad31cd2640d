package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager/admin"
)

// referenceDaemon is a process that has been wired and not started.
func referenceDaemon(t *testing.T) *daemon {
	t.Helper()
	dir := envoytest.Dir(t)
	cfg := defaultConfig()
	cfg.State.Dir = filepath.Join(dir, "state")
	cfg.KeyManager.Address, cfg.Ops.Address = "127.0.0.1:0", "127.0.0.1:0"
	cfg.KeyManager.Issuer = "http://127.0.0.1:9090"
	cfg.Redis.Mode, cfg.Redis.Addresses = "single", []string{filepath.Join(dir, "redis.sock")} // nobody connects
	logs := newLogWriter(io.Discard)
	t.Cleanup(func() { _ = logs.Close() })
	d, err := newDaemon(t.Context(), cfg, allRoles, newLogger(logs, cfg.Log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	d.metrics.MustRegister(logs)
	// Those of a process that serves others.
	if _, err := d.usageReceiver(); err != nil {
		t.Fatal(err)
	}
	k := &keyManagers{d: d}
	if _, err := d.rpcService(contracts{k, k, k, k, k.reached}); err != nil {
		t.Fatal(err)
	}
	return d
}

// operationsTable has a row for each operation of the OpenAPI document.
func operationsTable(t *testing.T, d *daemon) string {
	t.Helper()
	w := httptest.NewRecorder()
	d.keyManagerHandler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, admin.OpenAPIPath+".json", nil))
	var doc struct {
		Paths map[string]map[string]struct {
			Summary, Description string
			Security             []map[string][]string
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Paths) == 0 {
		t.Fatalf("%v: %.200s", err, w.Body)
	}
	var b strings.Builder
	b.WriteString("| method | path below `" + admin.Prefix + "` | what it does | needs |\n| --- | --- | --- | --- |\n")
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range []string{"get", "put", "post", "delete"} {
			op, ok := doc.Paths[path][method]
			if !ok {
				continue
			}
			var scopes []string
			for _, s := range op.Security[0]["accessToken"] {
				scopes = append(scopes, strings.TrimPrefix(s, "tollgate:"))
			}
			needs := strings.Join(scopes, ", ")
			if strings.Contains(op.Description, string(admin.SystemOrganization)) {
				needs = "admin of `system`"
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", strings.ToUpper(method), strings.TrimPrefix(path, admin.Prefix), cellText(op.Summary), needs)
		}
	}
	return b.String()
}

// schemaTables has a table for each type that a client reads or writes.
func schemaTables(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, s := range []struct {
		title string
		of    any
	}{
		{"Organization", admin.OrganizationSpec{}},
		{"User", admin.UserSpec{}},
		{"Tier", admin.TierSpec{}},
		{"API", admin.APISpec{}},
		{"Resource (of an API)", admin.ResourceSpec{}},
		{"CORS (of an API)", admin.CORSSpec{}},
		{"Back ends (of an API)", admin.BackendSpec{}},
		{"Retry (of back ends)", admin.RetrySpec{}},
		{"Health check (of back ends)", admin.HealthCheckSpec{}},
		{"Outliers (of back ends)", admin.OutlierSpec{}},
		{"Limits (of back ends)", admin.BackendLimitsSpec{}},
		{"TLS (of back ends)", admin.BackendTLSSpec{}},
		{"Application", admin.ApplicationSpec{}},
		{"Key", admin.KeySpec{}},
		{"New key (POST)", admin.NewKey{}},
		{"New client secret (POST)", admin.NewSecret{}},
		{"New API key (POST)", admin.NewAPIKey{}},
		{"API key (as shown)", admin.APIKey{}},
		{"Subscription", admin.SubscriptionSpec{}},
		{"Change of state (PUT …/state)", admin.StateBody{}},
		{"Apply (POST /apply)", admin.ApplyRequest{}},
		{"Document (of apply)", admin.Document{}},
		{"Answer of apply", admin.ApplyResult{}},
		{"Document in the answer of apply", admin.DocumentResult{}},
		{"Issued credential", admin.Issued{}},
		{"Gateway", admin.Gateway{}},
		{"Node (of a gateway)", admin.Node{}},
		{"Rejected resource", admin.Rejected{}},
		{"Question (POST /api/validate)", admin.Validation{}},
		{"Credential (of a question)", admin.ValidationCredential{}},
		{"Answer of a question", admin.ValidationAnswer{}},
		{"Application (in an answer)", admin.ValidationApplication{}},
		{"Subscription (in an answer)", admin.ValidationSubscription{}},
		{"Audit entry", admin.AuditEntry{}},
		{"Usage", admin.UsageSum{}},
		{"Usage record", admin.UsageRecord{}},
		{"Problem", admin.Problem{}},
		{"Error (of a problem)", admin.FieldProblem{}},
	} {
		fmt.Fprintf(&b, "### %s\n\n| name | type | meaning |\n| --- | --- | --- |\n", s.title)
		for _, f := range reflect.VisibleFields(reflect.TypeOf(s.of)) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() {
				continue
			}
			if name == "" {
				t.Errorf("%s.%s has no JSON name", s.title, f.Name)
			}
			meaning := f.Tag.Get("doc")
			if enum := f.Tag.Get("enum"); enum != "" {
				meaning = strings.TrimSuffix("`"+strings.ReplaceAll(enum, ",", "`, `")+"`. "+cellText(meaning), ". ")
			} else {
				meaning = cellText(meaning)
			}
			name = "`" + name + "`"
			if !strings.Contains(options, "omitempty") && requestSchema(s.title) {
				name += " (required)"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, typeWord(f.Type), meaning)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// requestSchema tells the schemas that clients write.
func requestSchema(title string) bool {
	return !regexp.MustCompile(`shown|nswer|Issued|Gateway|Node|Rejected|Audit|[Pp]roblem`).MatchString(title)
}

func typeWord(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t == reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Interface:
		return "any"
	case t == reflect.TypeFor[admin.APIRef]():
		return "text, or object"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeWord(t.Elem())
	case reflect.Slice:
		return "list of " + typeWord(t.Elem())
	case reflect.Map:
		return "object of texts"
	case reflect.Struct:
		return "object"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true, false"
	default:
		return "number"
	}
}

// Every metric is in the list of the operator's document, with its labels, and
// nothing else is.
func TestMetricsAreDocumented(t *testing.T) {
	d := referenceDaemon(t)
	text := readDoc(t, "operations.md")
	descs := make(chan *prometheus.Desc, 1000)
	d.metrics.Describe(descs)
	close(descs)
	known := map[string]bool{}
	pattern := regexp.MustCompile(`fqName: "(tollgate_\w+)".*variableLabels: \{(.*?)\}`)
	for desc := range descs {
		m := pattern.FindStringSubmatch(desc.String())
		if m == nil {
			continue // of Go and the process
		}
		known[m[1]] = true
		row := regexp.MustCompile("(?m)^\\| `" + m[1] + "` \\|.*$").FindString(text)
		if row == "" {
			t.Errorf("%s is not in the table", m[1])
			continue
		}
		for label := range strings.SplitSeq(m[2], ",") {
			if label != "" && !strings.Contains(row, "`"+label+"`") {
				t.Errorf("%s: the label %s is not in its row", m[1], label)
			}
		}
	}
	if len(known) < 10 {
		t.Fatalf("only %d metrics found", len(known))
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(tollgate_\\w+)` \\|").FindAllStringSubmatch(text, -1) {
		if !known[m[1]] {
			t.Errorf("there is no metric %s", m[1])
		}
	}
}

// Every way in which a request can be refused is explained.
func TestRefusalsAreDocumented(t *testing.T) {
	d := referenceDaemon(t)
	text := readDoc(t, "api.md")
	families, err := d.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	for _, f := range families {
		if f.GetName() != "tollgate_authz_decisions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["code"] == "200" {
				continue
			}
			reasons++
			row := regexp.MustCompile("(?m)^\\| " + labels["code"] + " \\|.*`" + labels["reason"] + "`.*$")
			if !row.MatchString(text) {
				t.Errorf("code %s, reason %s is not in the table of refusals", labels["code"], labels["reason"])
			}
		}
	}
	if reasons < 20 {
		t.Fatalf("only %d reasons found", reasons)
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
