package envoytest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/process"
)

// Options describe an Envoy under test.
type Options struct {
	XDS   string // where the control plane listens; see bootstrap.Options
	Authz string // Unix socket of authz
	// Listeners are awaited before Start returns, with Envoy's readiness. None:
	// Start does not wait.
	Listeners []string
	NodeID    string // "" = "test-1"
	Group     string // "" = "default"
	// Bootstrap changes the bootstrap's options; Raw changes what was rendered.
	Bootstrap func(*bootstrap.Options)
	Raw       func([]byte) []byte
	// Concurrency is the number of workers; 0 = 1.
	Concurrency int
	// DrainTime is how long a graceful drain takes; 0 = Envoy's default.
	DrainTime time.Duration
	// Components sets log levels ("ext_authz:debug").
	Components string
}

// Envoy is a real Envoy. Its log is printed when the test fails.
type Envoy struct {
	*process.Process
	t      testing.TB
	admin  *process.Admin
	log    *buffer
	output *buffer
}

// Binary returns the path of Envoy: the variable ENVOY_BIN, PATH, or where
// "make envoy" puts it. Without one the test fails.
func Binary(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	b, err := process.Find(ctx, process.FindOptions{
		Explicit: os.Getenv("ENVOY_BIN"), Tools: []string{filepath.Join(moduleRoot(t), ".tools")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Path
}

// moduleRoot is the folder of go.mod above the test's own.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// Start starts Envoy from the gateway's bootstrap, opened for tests: the admin
// interface may change it, and it keeps the statistics of API clusters.
func Start(t testing.TB, opts Options) *Envoy {
	t.Helper()
	if opts.NodeID == "" {
		opts.NodeID = "test-1"
	}
	if opts.Group == "" {
		opts.Group = "default"
	}
	boot := bootstrap.Options{
		NodeID: opts.NodeID, Group: opts.Group, XDS: opts.XDS, Authz: opts.Authz,
		BackoffBase: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
		ConnectionLimit: 2000, APIStats: true, OpenAdmin: true,
	}
	if opts.Bootstrap != nil {
		opts.Bootstrap(&boot)
	}
	raw, err := bootstrap.Render(boot)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Raw != nil {
		raw = opts.Raw(raw)
	}
	e := &Envoy{t: t, log: &buffer{}, output: &buffer{}}
	e.Process, err = process.Start(process.Options{
		Binary: Binary(t), Bootstrap: raw, Dir: Dir(t), Concurrency: opts.Concurrency,
		DrainTime: opts.DrainTime, Components: opts.Components, AccessLogFlush: 20 * time.Millisecond, Log: e.log, Output: e.output,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("log of Envoy %s:\n%s", boot.NodeID, e.Log())
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if e.admin, err = e.Admin(ctx); err != nil {
		t.Fatal(err)
	}
	if len(opts.Listeners) > 0 {
		e.WaitReady(opts.Listeners...)
	}
	return e
}

// WaitReady waits until Envoy serves and listens on the listeners.
func (e *Envoy) WaitReady(listeners ...string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := e.Ready(ctx, listeners...); err != nil {
		e.t.Fatal(err)
	}
}

// Addr returns where a listener listens.
func (e *Envoy) Addr(listener string) string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	all, err := e.admin.Listeners(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	addr, ok := all[listener]
	if !ok {
		e.t.Fatalf("Envoy does not listen on %s, only on %v", listener, all)
	}
	return addr
}

// Get returns the body of GET path of the admin interface: /server_info,
// /clusters?format=json, /config_dump ...
func (e *Envoy) Get(path string) []byte {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	status, body, err := e.admin.Get(ctx, path)
	if err != nil || status != 200 {
		e.t.Fatalf("admin GET %s: %d, %v", path, status, err)
	}
	return body
}

// Post calls POST path of the admin interface: /runtime_modify?k=v,
// /logging?ext_authz=trace, /reset_counters ...
func (e *Envoy) Post(path string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if status, body, err := e.admin.Post(ctx, path); err != nil || status != 200 {
		e.t.Fatalf("admin POST %s: %d %s, %v", path, status, body, err)
	}
}

// State returns what Envoy's /ready says ("LIVE", "PRE_INITIALIZING").
func (e *Envoy) State() string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := e.admin.State(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// Stats returns the counters and gauges whose names match a regular expression.
func (e *Envoy) Stats(filter string) map[string]uint64 {
	e.t.Helper()
	var doc struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"` // a text for some
		} `json:"stats"`
	}
	body := e.Get("/stats?format=json&filter=" + url.QueryEscape(filter))
	if err := json.Unmarshal(body, &doc); err != nil {
		e.t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, s := range doc.Stats {
		var n uint64
		if s.Name != "" && json.Unmarshal(s.Value, &n) == nil {
			out[s.Name] = n
		}
	}
	return out
}

// Stat returns one counter or gauge; one that does not exist (yet) is 0.
func (e *Envoy) Stat(name string) uint64 {
	e.t.Helper()
	return e.Stats("^" + strings.ReplaceAll(name, ".", `\.`) + "$")[name]
}

// Log returns Envoy's own log so far.
func (e *Envoy) Log() string { return e.log.String() }

// Logged waits for the line of the access log (JSON, on standard output) whose
// request_id is that of an answer.
func (e *Envoy) Logged(r Reply) map[string]any {
	e.t.Helper()
	id := r.Header.Get("X-Request-Id")
	var found map[string]any
	Eventually(e.t, func() error {
		for line := range strings.Lines(e.output.String()) {
			entry := map[string]any{}
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				return fmt.Errorf("access log line %q: %w", line, err)
			}
			if entry["request_id"] == id {
				found = entry
				return nil
			}
		}
		return fmt.Errorf("no line of request %q in the access log", id)
	})
	return found
}

// buffer is what Envoy has written.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b)
}
