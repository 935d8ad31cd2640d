package authz

import (
	"context"
	"errors"
	"testing"

	"tollgate/keymanager"
)

func TestExplain(t *testing.T) {
	inner := petsAPI() // below the other's base path, on a host of its own
	inner.ID, inner.Context, inner.Version, inner.Hosts = "api-inner", "/pets", "1.0.0/inner", []string{"api.example.com"}
	broken := petsAPI()
	broken.ID, broken.Context = "api-broken", "/broken"
	broken.Resources = []keymanager.Resource{{Method: "GET", Path: "bad", AuthType: keymanager.AuthAny}}
	r := newRig(t, nil, petsAPI(), inner, broken).run(t)
	r.grant(nil)
	for _, tt := range []struct {
		name   string
		q      Question
		api    keymanager.APIID
		status int
		reason string
		steps  int
		env    keymanager.KeyType
	}{
		{"allowed", Question{Method: "GET", Path: "/pets/1.0.0/items/7?a=b", Credential: goodToken}, "api-pets", 200, "allowed", 6, keymanager.Production},
		{"allowed by a key", Question{Method: "GET", Path: "/pets/1.0.0/items", Credential: goodKey}, "api-pets", 200, "allowed", 6, keymanager.Production},
		{"public", Question{Method: "GET", Path: "/pets/1.0.0/public"}, "api-pets", 200, "anonymous", 4, keymanager.Production},
		{"no route", Question{Method: "GET", Path: "/dogs/1.0.0/items"}, "", 404, "no_route", 1, ""},
		{"no route, half a segment", Question{Method: "GET", Path: "/pets/1.0.00"}, "", 404, "no_route", 1, ""},
		{"host of another", Question{Method: "GET", Host: "localhost", GroupHost: true, Path: "/pets/1.0.0/inner/items"}, "api-pets", 403, "no_resource", 3, ""},
		{"host of nobody", Question{Method: "GET", Host: "localhost", Path: "/pets/1.0.0/inner/items"}, "", 404, "no_route", 1, ""},
		{"its host", Question{Method: "GET", Host: "API.example.com", Path: "/pets/1.0.0/inner/items"}, "api-inner", 401, "missing_credential", 4, ""},
		{"method", Question{Method: "BREW", Path: "/pets/1.0.0/items"}, "api-pets", 403, "method_refused", 2, ""},
		{"resource", Question{Method: "GET", Path: "/pets/1.0.0/nothing"}, "api-pets", 403, "no_resource", 3, ""},
		{"no credential", Question{Method: "GET", Path: "/pets/1.0.0/items"}, "api-pets", 401, "missing_credential", 4, ""},
		{"not ours", Question{Method: "GET", Path: "/pets/1.0.0/items", Credential: "x"}, "api-pets", 401, "not_ours", 4, ""},
		{"unknown", Question{Method: "GET", Path: "/pets/1.0.0/items", Credential: "tgat_good_unknown"}, "api-pets", 401, "unknown_credential", 5, ""},
		{"scope", Question{Method: "DELETE", Path: "/pets/1.0.0/items/7", Credential: goodToken}, "api-pets", 403, "insufficient_scope", 6, ""},
		{"broken", Question{Method: "GET", Path: "/broken/1.0.0/items", Credential: goodToken}, "api-broken", 503, "broken_api", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := r.server.Explain(t.Context(), tt.q)
			must(t, err)
			if e.API != tt.api || e.Status != tt.status || e.Reason != tt.reason || e.Allowed != (tt.status == 200) || e.Environment != tt.env {
				t.Errorf("%+v", e)
			}
			if len(e.Steps) != tt.steps {
				t.Fatalf("%d steps, want %d: %+v", len(e.Steps), tt.steps, e.Steps)
			}
			for i, s := range e.Steps {
				if last := i == len(e.Steps)-1; s.Name == "" || s.Detail == "" || s.Passed != (!last || e.Allowed) {
					t.Errorf("step %d: %+v", i, s)
				}
			}
		})
	}
	e, err := r.server.Explain(t.Context(), Question{Method: "GET", Path: "/pets/1.0.0/items/7", Credential: goodToken})
	must(t, err)
	if e.Application.ID != "app-1" || e.Subscription == nil || e.ConsumerKey != "consumer-1" || e.Resource.Path != "/items/{id}" || e.TokenID.IsZero() {
		t.Errorf("%+v", e)
	}
	if r.server.record.decisions[allowed].value() != 0 {
		t.Error("explaining counts as deciding")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.server.Explain(gone, Question{Method: "GET", Path: "/pets/1.0.0/items", Credential: goodToken}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestEveryReasonHasItsStep: a new reason must be put where it belongs.
func TestEveryReasonHasItsStep(t *testing.T) {
	for r := unknownAPI; r < allowed; r++ {
		if r != unknownAPI && r != apiBlocked && r.decidedAt() == 0 {
			t.Errorf("%s belongs to no step", r)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "ab", false}, {"", "", true}, {"", "a", false},
		{"*", "", true}, {"*", "abc", true}, {"**", "abc", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"a*c", "abc", true},
		{"a*c", "ac", true}, {"a*c", "a", false}, {"ab*ba", "aba", false}, {"*b*", "abc", true}, {"*b*", "ac", false},
		{"a*b*c", "a1b2b3c", true}, {"a*b*c", "a1c2b", false}, {"*aab", "aaab", true}, {"a.c", "abc", false}, {"a?c", "abc", false},
		{"https://*.example.com/*", "https://a.example.com/x", true}, {"https://*.example.com/*", "https://example.com/x", false},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("%q with %q: %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}
