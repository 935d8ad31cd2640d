package oauthtest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (c *checker) document(t *testing.T, r request) map[string]any {
	t.Helper()
	r.method, r.path, r.contentType = http.MethodGet, pathMetadata, text("")
	got := c.do(t, r)
	var m map[string]any
	if err := json.Unmarshal([]byte(got.Body), &m); err != nil || got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	return m
}

// metadata: RFC 8414.
func metadata(t *testing.T, c *checker) {
	methods := []any{"client_secret_basic", "client_secret_post"}
	want := map[string]any{
		"issuer":                                        c.Issuer, // MD1
		"response_types_supported":                      []any{},
		"grant_types_supported":                         []any{"client_credentials"},
		"token_endpoint":                                c.Issuer + pathToken,
		"revocation_endpoint":                           c.Issuer + pathRevoke,
		"introspection_endpoint":                        c.Issuer + pathIntrospect,
		"token_endpoint_auth_methods_supported":         methods,
		"revocation_endpoint_auth_methods_supported":    methods,
		"introspection_endpoint_auth_methods_supported": append(methods[:2:2], "Bearer"),
	}
	spoofed := http.Header{}
	for name, value := range map[string]string{"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
		"X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil", "X-Original-Url": "/evil", "Forwarded": "host=evil.example;proto=https"} {
		spoofed.Set(name, value)
	}
	// MD8: what a request says of its host changes nothing.
	requests := []request{{}, {header: spoofed}, {query: "issuer=https://evil.example"}}
	if c.Gateway { // it knows its hosts
		requests = append(requests, request{host: "localhost:1"})
	} else {
		requests = append(requests, request{host: "evil.example"})
	}
	for _, r := range requests {
		if diff := cmp.Diff(want, c.document(t, r)); diff != "" {
			t.Errorf("metadata (-want +got):\n%s", diff)
		}
	}
	for _, method := range []string{"POST", "DELETE"} {
		r := request{method: method, path: pathMetadata}
		if c.Gateway {
			if got := c.send(t, r); got.Status != http.StatusNotFound {
				t.Errorf("%s: %d", method, got.Status)
			}
		} else if got := c.do(t, r); got.Status != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, got.Status, got.Header.Get("Allow"))
		}
	}
}

// MD2: all that the metadata lists works.
func metadataListsWhatWorks(t *testing.T, c *checker) {
	m := c.document(t, request{})
	value := c.issue(t, c.Shop, "")
	for member, body := range map[string]string{"token": "", "revocation": "token=" + c.Unissued, "introspection": "token=" + c.Unissued} {
		endpoint, _ := m[member+"_endpoint"].(string)
		path, ours := strings.CutPrefix(endpoint, c.Issuer)
		if !ours {
			t.Errorf("%s is at %q", member, endpoint)
		}
		bodies := []string{body}
		if body == "" {
			bodies = nil
			for _, g := range list(m["grant_types_supported"]) {
				bodies = append(bodies, "grant_type="+g)
			}
		}
		methods := list(m[member+"_endpoint_auth_methods_supported"])
		if len(bodies) == 0 || len(methods) == 0 {
			t.Errorf("%s: %v with %v", member, bodies, methods)
		}
		for _, body := range bodies {
			for _, method := range methods {
				r := request{path: path, body: body}
				switch method {
				case "client_secret_basic":
					r.auth = []string{c.Shop.basic()}
				case "client_secret_post":
					r.body += c.Shop.form()
				case "Bearer":
					r.auth = []string{"Bearer " + value}
				default:
					t.Errorf("no way to test %s at %s", method, member)
				}
				if got := c.do(t, r); got.Status != http.StatusOK {
					t.Errorf("%s with %s, %s: %d %s", member, method, body, got.Status, got.Body)
				}
			}
		}
	}
}

func list(v any) []string {
	var out []string
	values, _ := v.([]any)
	for _, one := range values {
		s, _ := one.(string)
		out = append(out, s)
	}
	return out
}
