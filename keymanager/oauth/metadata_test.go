package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

func TestMetadata(t *testing.T) {
	r := newRig(t)
	methods := []any{"client_secret_basic", "client_secret_post"}
	want := metadata{
		"issuer":                                        issuer, // MD1
		"response_types_supported":                      []any{},
		"grant_types_supported":                         []any{"client_credentials"},
		"token_endpoint":                                issuer + "/oauth2/token",
		"revocation_endpoint":                           issuer + "/oauth2/revoke",
		"introspection_endpoint":                        issuer + "/oauth2/introspect",
		"token_endpoint_auth_methods_supported":         methods,
		"revocation_endpoint_auth_methods_supported":    methods,
		"introspection_endpoint_auth_methods_supported": append(methods[:2:2], "Bearer"),
	}
	if diff := cmp.Diff(want, r.metadata(request{})); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	// MD8: what a request says of its host changes nothing.
	for _, req := range []request{
		{host: "evil.example"},
		{header: http.Header{"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"host=evil.example"}}},
		{query: "issuer=https://evil.example"},
	} {
		if diff := cmp.Diff(want, r.metadata(req)); diff != "" {
			t.Errorf("metadata (-want +got):\n%s", diff)
		}
	}
	for _, method := range []string{"POST", "DELETE"} {
		if got := r.do(request{method: method, path: oauth.PathMetadata}); got.status != 405 || got.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, got.status, got.header.Get("Allow"))
		}
	}
	if got := r.do(request{method: "HEAD", path: oauth.PathMetadata}); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}

// MD2: all that the metadata lists works.
func TestMetadataListsWhatWorks(t *testing.T) {
	r := newRig(t)
	m := r.metadata(request{})
	value := r.issue(r.client, "")
	for member, body := range map[string]string{"token": "", "revocation": "token=" + value[:60], "introspection": "token=" + value[:60]} {
		path := strings.TrimPrefix(m[member+"_endpoint"].(string), issuer)
		var grants []string
		if body == "" {
			for _, g := range m["grant_types_supported"].([]any) {
				grants = append(grants, "grant_type="+g.(string))
			}
		} else {
			grants = []string{body}
		}
		for _, body := range grants {
			for _, method := range m[member+"_endpoint_auth_methods_supported"].([]any) {
				req := request{path: path, body: body}
				switch method {
				case "client_secret_basic":
					req.auth = []string{r.client.basic()}
				case "client_secret_post":
					req.body += "&client_id=" + r.client.id + "&client_secret=" + url.QueryEscape(r.client.secret)
				case "Bearer":
					req.auth = []string{"Bearer " + value}
				default:
					t.Errorf("no way to test %s at %s", method, member)
				}
				if got := r.do(req); got.status != http.StatusOK {
					t.Errorf("%s with %s, %s: %d %s", member, method, body, got.status, got.body)
				}
			}
		}
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
