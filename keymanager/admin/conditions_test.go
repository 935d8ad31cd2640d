package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestConditions(t *testing.T) {
	w := newWorld(t)
	const spec, other = `{"requests":1}`, `{"requests":2}`
	for i, tt := range []struct {
		name, method, header, value string
		exists                      bool
		want                        int
	}{
		{"match", "PUT", "If-Match", `"1"`, true, 200},
		{"match, one of a list", "PUT", "If-Match", `"7", "1"`, true, 200},
		{"match, any", "PUT", "If-Match", `*`, true, 200},
		{"match, another", "PUT", "If-Match", `"2"`, true, 412},
		{"match, weak", "PUT", "If-Match", `W/"1"`, true, 412},
		{"match, no tag", "PUT", "If-Match", `1`, true, 412},
		{"match, nothing there", "PUT", "If-Match", `"1"`, false, 412},
		{"match, any, nothing there", "PUT", "If-Match", `*`, false, 412},
		{"none match, any", "PUT", "If-None-Match", `*`, true, 412},
		{"none match, any, nothing there", "PUT", "If-None-Match", `*`, false, 201},
		{"none match, this", "PUT", "If-None-Match", `"1"`, true, 412},
		{"none match, another", "PUT", "If-None-Match", `"2"`, true, 200},
		{"no condition", "PUT", "", "", true, 200},
		{"delete, match", "DELETE", "If-Match", `"1"`, true, 204},
		{"delete, another", "DELETE", "If-Match", `"2"`, true, 412},
		{"delete, nothing there", "DELETE", "If-Match", `"1"`, false, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, tier := w.in(t), fmt.Sprintf("%s/tiers/T%d", inDefault, i)
			if tt.exists {
				w.put(system, tier, spec)
			}
			before := w.dump()
			body := other
			if tt.method == http.MethodDelete {
				body = ""
			}
			w.want(tt.want, system, tt.method, tier, body, tt.header, tt.value)
			if refused := tt.want >= 400; refused != (w.dump() == before) {
				t.Errorf("refused: %t, unchanged: %t", refused, w.dump() == before)
			}
		})
	}
}

// Of all who saw one revision, one wins; without a condition all do, one after
// another.
func TestRaces(t *testing.T) {
	const clients = 12
	requests := 0 // each round asks for something else
	run := func(t *testing.T, w *world, method, path string, headers ...string) map[int]int {
		t.Helper()
		var wg sync.WaitGroup
		var mu sync.Mutex
		seen := map[int]int{}
		requests += 100
		for i := range clients {
			wg.Go(func() {
				body := fmt.Sprintf(`{"requests":%d}`, requests+i)
				if method == http.MethodDelete {
					body = ""
				}
				a := w.do(system, method, path, body, headers...)
				mu.Lock()
				defer mu.Unlock()
				seen[a.status]++
			})
		}
		wg.Wait()
		return seen
	}
	w := newWorld(t)
	tier := inDefault + "/tiers/T"
	if got := run(t, w, "PUT", tier, "If-None-Match", "*"); got[201] != 1 || got[412]+got[409] != clients-1 {
		t.Errorf("If-None-Match: %v", got)
	}
	if got := run(t, w, "PUT", tier, "If-Match", `"1"`); got[200] != 1 || got[412] != clients-1 {
		t.Errorf("If-Match: %v", got)
	}
	if got := run(t, w, "PUT", tier); got[200] != clients {
		t.Errorf("no condition: %v", got)
	}
	if got := w.want(200, system, "GET", tier, "").at("revision").(float64); got != 2+clients {
		t.Errorf("revision %v", got)
	}
	etag := w.want(200, system, "GET", tier, "").header.Get("ETag")
	if got := run(t, w, "DELETE", tier, "If-Match", etag); got[204] != 1 || got[404]+got[412] != clients-1 {
		t.Errorf("delete: %v", got)
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.put(system, fmt.Sprintf("%s/users/PRIMARY/u%02d", inDefault, i), `{}`)
	}
	list := inDefault + "/users" // one more than these: admin
	for _, tt := range []struct {
		query  string
		status int
		items  int
		first  string
	}{
		{"", 200, 26, "admin"},
		{"?limit=10", 200, 10, "admin"},
		{"?limit=10&offset=10", 200, 10, "u09"},
		{"?offset=20", 200, 6, "u19"},
		{"?limit=10&offset=26", 200, 0, ""},
		{"?limit=10&offset=999999999", 200, 0, ""},
		{"?limit=1000", 200, 26, "admin"},
		{"?limit=1001", 422, 0, ""},
		{"?limit=0", 422, 0, ""},
		{"?limit=-1", 422, 0, ""},
		{"?offset=-1", 422, 0, ""},
		{"?limit=ten", 422, 0, ""},
		{"?limit=99999999999999999999", 422, 0, ""},
		{"?page=2", 422, 0, ""},
	} {
		a := w.want(tt.status, system, "GET", list+tt.query, "")
		if tt.status != 200 {
			refusal(t, tt.query, a)
			continue
		}
		items := a.at("items").([]any)
		if len(items) != tt.items || a.at("total") != 26.0 || a.text("items/0/name") != tt.first {
			t.Errorf("%s: %d items, total %v, first %q", tt.query, len(items), a.at("total"), a.text("items/0/name"))
		}
	}
	w.furnish()
	for query, want := range map[string]float64{"?application=shop": 1, "?api=pets/1.0.0": 1, "?application=shop&api=pets/1.0.0": 1, "": 1} {
		if a := w.want(200, system, "GET", inDefault+"/subscriptions"+query, ""); a.at("total") != want {
			t.Errorf("%s: %s", query, a.body)
		}
	}
	w.want(404, system, "GET", inDefault+"/subscriptions?application=nobody", "")
	w.want(404, system, "GET", inDefault+"/subscriptions?api=pets", "")
	if trail := w.want(200, system, "GET", inDefault+"/audit?limit=1&offset=1", ""); len(trail.at("items").([]any)) != 1 || trail.text("items/0/actor") == "" {
		t.Errorf("trail: %s", trail.body)
	}
}

// What no operation answers has the form of all other answers.
func TestUnknownPlaces(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/api/", 404},
		{"GET", "/api/v2/organizations", 404},
		{"GET", "/nothing", 404},
		{"PATCH", "/organizations", 405},
		{"POST", pets, 405},
		{"DELETE", "/api/openapi.json", 405},
	} {
		a := w.want(tt.want, system, tt.method, tt.path, "")
		refusal(t, tt.method+" "+tt.path, a)
		if (tt.want == 405) != (a.header.Get("Allow") != "") {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, a.header.Get("Allow"))
		}
	}
	if a := w.want(405, system, "POST", pets, ""); !strings.Contains(a.text("detail"), "PUT") {
		t.Errorf("detail: %s", a.body)
	}
}
