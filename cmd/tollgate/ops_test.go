package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestReadiness(t *testing.T) {
	var r readiness
	h := newOps(&r, prometheus.NewRegistry())
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if status, _ := get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready with nothing in it: %d", status)
	}
	lacks := errors.New("the catalog is not loaded")
	r.add("authz", func() error { return nil })
	r.add("xds", func() error { return lacks })
	r.set(true)
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || body != "not ready\nxds: the catalog is not loaded\n" {
		t.Errorf("%d %q", status, body)
	}
	lacks = nil
	if status, body := get("/readyz"); status != http.StatusOK || body != "ready\n" {
		t.Errorf("%d %q", status, body)
	}
	r.set(false)
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := get("/healthz"); status != http.StatusOK {
		t.Errorf("healthz %d", status)
	}
	if status, _ := get("/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("pprof %d", status)
	}
}

func TestSample(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/pets?x=1", strings.NewReader("body"))
	r.Header.Add("X-Two", "a")
	r.Header.Add("X-Two", "b")
	w := httptest.NewRecorder()
	newSample(sampleSandbox).ServeHTTP(w, r)
	var got sampleEcho
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := sampleEcho{Method: "POST", Path: "/pets?x=1", Headers: map[string]string{"host": "example.com", "x-two": "a, b"}}
	if diff := cmp.Diff(want, got); diff != "" || w.Header().Get(sampleEnvHeader) != "sandbox" {
		t.Errorf("%v\n%s", w.Header(), diff)
	}
}

// The demo's manifest follows the addresses of the sample back end.
func TestDemoDocuments(t *testing.T) {
	docs, err := demoDocuments(SampleConfig{Production: "127.0.0.1:1001", Sandbox: "127.0.0.1:1002"})
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, d := range docs {
		all += string(d.JSON)
	}
	defaults := defaultConfig().Sample
	for text, want := range map[string]int{
		"http://127.0.0.1:1001/": 2, "http://127.0.0.1:1002/": 2, defaults.Production: 0, defaults.Sandbox: 0,
	} {
		if n := strings.Count(all, text); n != want {
			t.Errorf("%s is there %d times, want %d", text, n, want)
		}
	}
}

func TestCheckServer(t *testing.T) {
	for server, ok := range map[string]bool{
		"http://127.0.0.1:9090": true, "http://localhost:9090": true, "http://[::1]:9090": true, "https://login.example.com": true,
		"http://login.example.com": false, "http://10.0.0.1:9090": false, "127.0.0.1:9090": false, "ftp://127.0.0.1": false, "": false,
	} {
		if err := checkServer(server); (err == nil) != ok {
			t.Errorf("%q: %v", server, err)
		}
	}
}
