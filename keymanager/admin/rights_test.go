package admin_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Who of the callers of the organization default may use each operation there.
// The administrator of the system may use all of them.
var mayUse = map[string][]string{
	"list-organizations":     {orgAdmin, publisher, subscriber},
	"get-organization":       {orgAdmin, publisher, subscriber},
	"put-organization":       {orgAdmin},
	"delete-organization":    {},
	"list-users":             {orgAdmin, subscriber},
	"get-user":               {orgAdmin, subscriber},
	"put-user":               {orgAdmin},
	"delete-user":            {orgAdmin},
	"list-tiers":             {orgAdmin, publisher, subscriber},
	"get-tier":               {orgAdmin, publisher, subscriber},
	"put-tier":               {orgAdmin, publisher},
	"delete-tier":            {orgAdmin, publisher},
	"list-apis":              {orgAdmin, publisher, subscriber},
	"get-api":                {orgAdmin, publisher, subscriber},
	"put-api":                {orgAdmin, publisher},
	"delete-api":             {orgAdmin, publisher},
	"set-api-state":          {orgAdmin, publisher},
	"import-api":             {orgAdmin, publisher},
	"list-applications":      {orgAdmin, subscriber},
	"get-application":        {orgAdmin, subscriber},
	"put-application":        {orgAdmin, subscriber},
	"delete-application":     {orgAdmin, subscriber},
	"list-keys":              {orgAdmin, subscriber},
	"get-key":                {orgAdmin, subscriber},
	"create-key":             {orgAdmin, subscriber},
	"put-key":                {orgAdmin, subscriber},
	"delete-key":             {orgAdmin, subscriber},
	"list-secrets":           {orgAdmin, subscriber},
	"create-secret":          {orgAdmin, subscriber},
	"delete-secret":          {orgAdmin, subscriber},
	"list-api-keys":          {orgAdmin, subscriber},
	"get-api-key":            {orgAdmin, subscriber},
	"create-api-key":         {orgAdmin, subscriber},
	"revoke-api-key":         {orgAdmin, subscriber},
	"list-subscriptions":     {orgAdmin, publisher, subscriber},
	"get-subscription":       {orgAdmin, publisher, subscriber},
	"put-subscription":       {orgAdmin, subscriber},
	"delete-subscription":    {orgAdmin, subscriber},
	"set-subscription-state": {orgAdmin, publisher},
	"apply":                  {orgAdmin, publisher, subscriber},
	"validate":               {orgAdmin},
	"list-gateways":          {},
	"list-audit":             {orgAdmin},
	"get-usage":              {orgAdmin, publisher},
	"get-all-usage":          {},
	"list-usage-records":     {orgAdmin},
	"revoke-token":           {},
}

// route is an operation of the served OpenAPI document.
type route struct{ id, method, path string }

func (w *world) routes() []route {
	w.t.Helper()
	var out []route
	paths, _ := w.want(200, "", "GET", "/api/openapi.json", "").at("paths").(map[string]any)
	for path, item := range paths {
		for method, op := range item.(map[string]any) {
			id, _ := op.(map[string]any)["operationId"].(string)
			out = append(out, route{id, strings.ToUpper(method), path})
		}
	}
	slices.SortFunc(out, func(a, b route) int { return strings.Compare(a.id, b.id) })
	return out
}

// Every operation and every kind of caller. The operations come from what is
// served: one without a row above fails.
func TestRightsSweep(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	key := w.want(201, system, "POST", shop+"/keys", `{"keyType":"PRODUCTION"}`)
	apiKey := w.want(201, system, "POST", shop+"/api-keys", `{"name":"k","keyType":"PRODUCTION"}`)
	fill := func(r route) string {
		name := "shop"
		for part, n := range map[string]string{"/apis": "pets", "/tiers": "Gold", "/users": "alice", "/subscriptions": "shop-pets"} {
			if strings.Contains(r.path, part) {
				name = n
			}
		}
		id := apiKey.text("id")
		if strings.Contains(r.path, "/secrets") {
			id = key.text("secret/id")
		}
		return strings.NewReplacer("{org}", "default", "{name}", name, "{version}", "1.0.0", "{domain}", "PRIMARY",
			"{consumerKey}", key.text("consumerKey"), "{id}", id).Replace(r.path)
	}
	routes := w.routes()
	if len(routes) != len(mayUse) {
		t.Errorf("%d operations, %d rows", len(routes), len(mayUse))
	}
	before := w.dump()
	for _, r := range routes {
		allowed, known := mayUse[r.id]
		if !known {
			t.Errorf("%s %s (%s) has no row", r.method, r.path, r.id)
			continue
		}
		inOrg := strings.Contains(r.path, "{org}")
		for caller, want := range map[string]int{
			"": 401, "forged": 401, "outage": 503,
			system: 0, orgAdmin: 403, publisher: 403, subscriber: 403, nobody: 403, stranger: 404,
		} {
			switch {
			case slices.Contains(allowed, caller), caller == stranger && !inOrg && len(allowed) > 0:
				want = 0
			case caller == stranger && (!inOrg || r.id == "delete-organization"):
				want = 403
			}
			if want == 0 {
				continue // below
			}
			a := w.do(caller, r.method, fill(r), bodyFor(r.method))
			if a.status != want {
				t.Errorf("%s as %q: %d, want %d: %s", r.id, caller, a.status, want, a.body)
			}
			refusal(t, fmt.Sprintf("%s as %q", r.id, caller), a)
		}
	}
	if w.dump() != before {
		t.Error("a refused request has changed something")
	}
	// Those who may get past the gate; what they send is often not valid.
	for _, r := range routes {
		for _, caller := range append([]string{system}, mayUse[r.id]...) {
			if a := w.do(caller, r.method, fill(r), bodyFor(r.method)); a.status == 401 || a.status == 403 || a.status >= 500 {
				t.Errorf("%s as %q: %d: %s", r.id, caller, a.status, a.body)
			}
		}
	}
}

func bodyFor(method string) string {
	if method == http.MethodGet || method == http.MethodDelete {
		return ""
	}
	return `{"unknown":1}`
}

// refusal checks the headers and the form of a refusal.
func refusal(t *testing.T, what string, a answer) {
	t.Helper()
	challenge := a.header.Get("WWW-Authenticate")
	switch a.status {
	case 401, 403:
		if !strings.HasPrefix(challenge, `Bearer realm="tollgate"`) {
			t.Errorf("%s: WWW-Authenticate %q", what, challenge)
		}
	case 503:
		if a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "10.0.0.1") {
			t.Errorf("%s: %v %s", what, a.header, a.body)
		}
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: Content-Type %q", what, got)
	}
	if a.at("status") != float64(a.status) || a.text("title") != http.StatusText(a.status) {
		t.Errorf("%s: %s", what, a.body)
	}
}

func TestChallenge(t *testing.T) {
	w := newWorld(t)
	for caller, want := range map[string]string{
		"":       `Bearer realm="tollgate"`,
		"forged": `Bearer realm="tollgate", error="invalid_token"`,
		nobody:   `Bearer realm="tollgate", error="insufficient_scope", scope="tollgate:admin tollgate:publish"`,
	} {
		if got := w.do(caller, "PUT", pets, `{}`).header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%q: %s, want %s", caller, got, want)
		}
	}
}

// What is shared by all organizations shows no more than the caller's own.
func TestForeignOrganizations(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	list := w.want(200, stranger, "GET", "/organizations", "")
	if list.at("total") != 1.0 || list.text("items/0/name") != "other" {
		t.Errorf("list: %s", list.body)
	}
	if list := w.want(200, stranger, "GET", "/organizations?offset=1", ""); list.at("total") != 1.0 || list.at("items/0") != nil {
		t.Errorf("second page: %s", list.body)
	}
	if all := w.want(200, system, "GET", "/organizations", ""); all.at("total") != 3.0 {
		t.Errorf("all: %s", all.body)
	}
	// One that is not there and one that is foreign look the same.
	there := w.want(404, stranger, "GET", "/organizations/default/apis", "")
	not := w.want(404, stranger, "GET", "/organizations/nowhere/apis", "")
	if strings.Replace(string(there.body), "default", "nowhere", 1) != string(not.body) {
		t.Errorf("%s\n%s", there.body, not.body)
	}
	w.want(404, stranger, "PUT", "/organizations/third", `{}`)
	w.want(404, system, "GET", "/organizations/nowhere/apis", "")
	w.want(404, system, "PUT", "/organizations/nowhere/tiers/T", `{"requests":1}`)
	w.want(404, system, "GET", "/organizations/nowhere/subscriptions", "")
	// References do not reach into another organization.
	w.put(stranger, "/organizations/other/users/PRIMARY/eve", `{}`)
	w.put(stranger, "/organizations/other/applications/eve", `{"owner":"eve"}`)
	bad := w.want(422, stranger, "PUT", "/organizations/other/subscriptions/s", `{"application":"eve","api":"pets/1.0.0","tier":"Gold"}`)
	if bad.text("errors/0/pointer") != "/api" {
		t.Errorf("foreign API: %s", bad.body)
	}
	if bad := w.want(422, stranger, "PUT", "/organizations/other/applications/x", `{"owner":"alice"}`); bad.text("errors/0/pointer") != "/owner" {
		t.Errorf("foreign owner: %s", bad.body)
	}
}

// Scopes of the management plane, and whoever has them, are for administrators.
func TestNoWayToMoreRights(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	portal := inDefault + "/applications/portal"
	w.want(403, subscriber, "PUT", portal, `{"owner":"alice","scopes":["tollgate:subscribe"]}`)
	w.want(403, subscriber, "PUT", shop, `{"owner":"alice","scopes":["tollgate:admin"]}`)
	w.want(403, subscriber, "PUT", portal, `{"owner":"alice","status":"REJECTED"}`)
	w.put(orgAdmin, portal, `{"owner":"alice","scopes":["tollgate:admin"]}`)
	key := w.want(201, orgAdmin, "POST", portal+"/keys", `{"keyType":"PRODUCTION"}`).text("consumerKey")
	w.want(201, orgAdmin, "POST", portal+"/keys/"+key+"/secrets", "")
	first := w.want(200, subscriber, "GET", portal+"/keys/"+key+"/secrets", "").text("items/0/id")
	before := w.dump()
	for _, r := range []struct{ method, path, body string }{
		{"PUT", portal, `{"owner":"alice"}`},
		{"DELETE", portal, ""},
		{"POST", portal + "/keys", `{"keyType":"SANDBOX"}`},
		{"PUT", portal + "/keys/" + key, `{}`},
		{"DELETE", portal + "/keys/" + key, ""},
		{"POST", portal + "/keys/" + key + "/secrets", ""},
		{"DELETE", portal + "/keys/" + key + "/secrets/" + first, ""},
		{"POST", portal + "/api-keys", `{"name":"k","keyType":"PRODUCTION"}`},
		{"POST", "/apply", `{"documents":[{"kind":"Key","name":"portal/SANDBOX"}]}`},
		{"POST", "/apply", `{"documents":[{"kind":"Application","name":"portal","spec":{"owner":"alice"}}]}`},
		{"POST", "/apply", `{"documents":[{"kind":"Application","name":"fresh","spec":{"owner":"alice","scopes":["tollgate:publish"]}}]}`},
	} {
		a := w.do(subscriber, r.method, r.path, r.body)
		if r.path == "/apply" && a.status == 422 && strings.Contains(string(a.body), "tollgate:admin") {
			continue
		}
		if a.status != 403 {
			t.Errorf("%s %s %s: %d %s", r.method, r.path, r.body, a.status, a.body)
		}
	}
	if w.dump() != before {
		t.Error("a refused request has changed something")
	}
	w.want(422, orgAdmin, "PUT", portal, `{"owner":"alice","scopes":["tollgate:everything"]}`)
	w.want(422, publisher, "PUT", pets, strings.Replace(petsSpec, "pets:read", "tollgate:admin", 1))

	// The built-in application stays what it is; its secrets can be replaced.
	builtIn := "/organizations/system/applications/administrator"
	own := string(w.callers[system].ConsumerKey)
	w.want(409, system, "PUT", builtIn, `{"owner":"admin"}`)
	w.want(409, system, "DELETE", builtIn, "")
	w.want(409, system, "DELETE", builtIn+"/keys/"+own, "")
	w.want(409, system, "DELETE", "/organizations/system", "")
	w.want(201, system, "POST", builtIn+"/keys/"+own+"/secrets", "")
	if got := w.want(200, system, "GET", builtIn, ""); got.at("builtIn") != true {
		t.Errorf("built-in: %s", got.body)
	}
}

// Who subscribes does not learn where the back ends are.
func TestBackEndsAreThePublishers(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	for caller, sees := range map[string]bool{system: true, orgAdmin: true, publisher: true, subscriber: false} {
		for _, path := range []string{pets, inDefault + "/apis"} {
			a := w.want(200, caller, "GET", path, "")
			if got := strings.Contains(string(a.body), "127.0.0.1"); got != sees {
				t.Errorf("%s sees back ends at %s: %t", caller, path, got)
			}
		}
	}
}
