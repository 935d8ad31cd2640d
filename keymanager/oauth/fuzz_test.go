package oauth

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

func FuzzBasicHeader(f *testing.F) {
	f.Add("Basic Y2s6c2VjcmV0")
	f.Add("basic Y2slMjA6JTNB")
	f.Add("Basic ")
	f.Add("Bearer x")
	f.Add("Basic =")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, ok := parseBasic(header)
		if !ok {
			if id != "" || secret != "" {
				t.Errorf("refused, yet %q and %q", id, secret)
			}
			return
		}
		again := schemeBasic + " " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
		if len(again) > maxBasicAuth {
			return // escaping made it longer than what is read
		}
		if id2, secret2, ok := parseBasic(again); !ok || id2 != id || secret2 != secret {
			t.Errorf("%q, %q became %q, %q, %v", id, secret, id2, secret2, ok)
		}
		if isClientID(id) && (strings.ContainsAny(id, "\x00\r\n") || len(id) > maxClientID) {
			t.Errorf("%q may be looked up", id)
		}
	})
}

func FuzzFormBody(f *testing.F) {
	f.Add("grant_type=client_credentials&scope=a+b&foo=%20")
	f.Add("a=1&a=2")
	f.Add("&&=&==&%")
	f.Add(strings.Repeat("a&", 100))
	f.Fuzz(func(t *testing.T, body string) {
		var got form
		problem := got.parse(body)
		want, err := url.ParseQuery(body)
		if strings.Contains(body, ";") {
			return // net/url refuses these; here they are like any other character
		}
		if problem == "" && err != nil {
			t.Errorf("accepted %q: %v", body, err)
		}
		if problem != "" {
			if problem != "the body is not well formed" && err == nil && len(want) <= maxParams && !repeats(want) {
				t.Errorf("refused %q: %s", body, problem)
			}
			return
		}
		if len(got.params) != len(want) {
			t.Errorf("%d parameters in %q, want %d", len(got.params), body, len(want))
		}
		for name, values := range want {
			if len(values) != 1 || got.value(name) != values[0] {
				t.Errorf("%q of %q is %q, want %q", name, body, got.value(name), values)
			}
		}
	})
}

func repeats(v url.Values) bool {
	for _, values := range v {
		if len(values) > 1 {
			return true
		}
	}
	return false
}
