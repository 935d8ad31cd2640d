package rig

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Answer is what a client got.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Code returns the error code in the answer's body ("900902"), or "".
func (a Answer) Code() string {
	var body struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal([]byte(a.Body), &body)
	return body.Code
}

// Echo is what the sample back end answers.
type Echo struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
}

// Echo returns the answer as the sample back end's.
func (a Answer) Echo(t testing.TB) Echo {
	t.Helper()
	var e Echo
	if err := json.Unmarshal([]byte(a.Body), &e); err != nil || a.Status != http.StatusOK {
		t.Fatalf("not an echo: %d %s", a.Status, a.Body)
	}
	return e
}

// direct has no connection left over after a test, and follows no redirect.
var direct = &http.Client{
	Timeout:       10 * time.Second,
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Do sends a request. header holds name, value, name, value …
func Do(method, url string, header ...string) (Answer, error) {
	return DoWith(direct, method, url, header...)
}

// DoWith is Do with a client of the caller's.
func DoWith(client *http.Client, method, url string, header ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	if err != nil {
		return Answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return Send(client, req)
}

// Send sends a request with a client.
func Send(client *http.Client, req *http.Request) (Answer, error) {
	res, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return Answer{res.StatusCode, res.Header, string(body)}, err
}

// Get calls a path at the gateway with a token ("" = none).
func (r *Rig) Get(path, token string) Answer {
	r.t.Helper()
	var header []string
	if token != "" {
		header = []string{"Authorization", "Bearer " + token}
	}
	a, err := Do(http.MethodGet, "http://"+r.Gateway+path, header...)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// Sh runs a command line as a person would, and returns what it printed.
func Sh(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}
