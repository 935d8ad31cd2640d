package oauth_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"tollgate/keymanager/oauth"
)

type metadata map[string]any

func (r *rig) metadata(req request) metadata {
	r.t.Helper()
	req.method, req.contentType = http.MethodGet, ptr("")
	if req.path == "" {
		req.path = oauth.PathMetadata
	}
	got := r.do(req)
	if got.status != http.StatusOK {
		r.t.Fatalf("%d %s", got.status, got.body)
	}
	var m metadata
	r.ok(json.Unmarshal([]byte(got.body), &m))
	return m
}

func TestMetadataHead(t *testing.T) {
	r := newRig(t)
	if got := r.do(request{method: "HEAD", path: oauth.PathMetadata}); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}

func TestIssuers(t *testing.T) {
	r := newRig(t)
	for issuer, ok := range map[string]bool{
		"https://login.example.com":        true,
		"https://login.example.com:8443":   true,
		"https://login.example.com/tenant": true,
		"http://127.0.0.1:8080":            true,
		"http://localhost:8080":            true,
		"http://[::1]:8080":                true,
		"":                                 false,
		"login.example.com":                false,
		"http://login.example.com":         false,
		"http://127.0.0.1.example.com":     false,
		"https://login.example.com/":       false,
		"https://login.example.com?x=1":    false,
		"https://login.example.com?":       false,
		"https://login.example.com#x":      false,
		"https://u:canary@example.com":     false,
		"https://u:canary@exa mple.com":    false,
		"ftp://login.example.com":          false,
		"https:login.example.com":          false,
		"https://exa mple.com":             false,
	} {
		s, err := oauth.New(oauth.Options{Store: r.store, Minter: r.minter, Tags: r.tags, Peppers: r.peppers, Issuer: issuer})
		if (err == nil) != ok || (s == nil) == ok {
			t.Errorf("%q: %v", issuer, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

// RFC 8414 section 3.1: the path of the issuer follows the well-known one.
func TestIssuerWithPath(t *testing.T) {
	r := newRig(t, func(o *oauth.Options) { o.Issuer = "https://example.com/login" })
	for _, path := range []string{oauth.PathMetadata, oauth.PathMetadata + "/login"} {
		m := r.metadata(request{path: path})
		if m["issuer"] != "https://example.com/login" || m["token_endpoint"] != "https://example.com/login/oauth2/token" {
			t.Errorf("%s: %v", path, m)
		}
	}
}

func TestOptions(t *testing.T) {
	r := newRig(t)
	whole := oauth.Options{Store: r.store, Minter: r.minter, Tags: r.tags, Peppers: r.peppers, Issuer: issuer}
	for name, change := range map[string]func(*oauth.Options){
		"no store":          func(o *oauth.Options) { o.Store = nil },
		"no minter":         func(o *oauth.Options) { o.Minter = nil },
		"no tag keys":       func(o *oauth.Options) { o.Tags = nil },
		"no peppers":        func(o *oauth.Options) { o.Peppers = nil },
		"no issuer":         func(o *oauth.Options) { o.Issuer = "" },
		"negative lifetime": func(o *oauth.Options) { o.TokenLifetime = -1 },
		"tiny lifetime":     func(o *oauth.Options) { o.TokenLifetime = 1 },
		"negative timeout":  func(o *oauth.Options) { o.BodyTimeout = -1 },
		"negative failures": func(o *oauth.Options) { o.Failures = -1 },
		"negative window":   func(o *oauth.Options) { o.FailureWindow = -1 },
	} {
		o := whole
		change(&o)
		if s, err := oauth.New(o); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := oauth.New(whole); err != nil {
		t.Errorf("all that is required: %v", err)
	}
}
