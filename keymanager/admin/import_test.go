package admin_test

import (
	"strings"
	"testing"
)

const petsDocument = `
openapi: 3.1.0
info: {title: Pets, version: 1.10}
x-wso2-production-endpoints: {urls: ["https://pets.example.com/v1"]}
x-wso2-basePath: /zoo/1.10
x-wso2-sandbox-endpoints: {urls: ["https://sandbox.example.com/v1"]}
x-wso2-unheard-of: 1
paths:
  /pets/{id}:
    get:
      x-scopes: [pets:read]
      x-wso2-throttling-tier: Gold
      responses: {"200": {description: fine}}
  /health:
    get:
      x-auth-type: None
      responses: {"200": {description: fine}}
`

func TestImport(t *testing.T) {
	w := newWorld(t)
	path := inDefault + "/apis:import"
	yaml := []string{"Content-Type", "application/yaml; charset=utf-8"}
	made := w.want(201, publisher, "POST", path, petsDocument, yaml...)
	if got := made.header.Get("Location"); got != "/api/v1"+inDefault+"/apis/Pets/1.10" {
		t.Errorf("Location %q: %s", got, made.body)
	}
	equalJSON(t, "made", made.at("api/spec"), `{
		"version":"1.10","context":"/zoo","protocol":"http1","timeout":"30s","tiers":["Unlimited"],"state":"CREATED",
		"production":["https://pets.example.com/v1"],"sandbox":["https://sandbox.example.com/v1"],
		"resources":[{"method":"GET","path":"/health","authType":"None"},
			{"method":"GET","path":"/pets/{id}","authType":"Any","scopes":["pets:read"],"tier":"Gold"}]}`)
	if len(made.body) == 0 || made.at("warnings/0/detail") == nil {
		t.Errorf("no warning: %s", made.body)
	}

	// What the document does not say stays.
	w.put(publisher, inDefault+"/apis/Pets/1.10", strings.Replace(encode(t, made.at("api/spec")), `"CREATED"`, `"PUBLISHED","hosts":["h.example.com"]`, 1))
	again := w.want(200, publisher, "POST", path, strings.Replace(petsDocument, "pets:read", "pets:see", 1), yaml...)
	if again.text("api/spec/state") != "PUBLISHED" || again.text("api/spec/hosts/0") != "h.example.com" || again.text("api/spec/resources/1/scopes/0") != "pets:see" {
		t.Errorf("again: %s", again.body)
	}
	other := w.want(201, publisher, "POST", path+"?name=other&version=2&context=/other", petsDocument, yaml...)
	if other.text("api/name") != "other" || other.text("api/spec/context") != "/other" || other.text("api/spec/version") != "2" {
		t.Errorf("other: %s", other.body)
	}

	before := w.dump()
	for body, want := range map[string]int{
		"": 400, "{": 422, "[]": 422, "openapi: 3.1.0": 422,
		strings.Replace(petsDocument, "/zoo", "/oauth2", 1):    422,
		strings.Replace(petsDocument, "Gold", "Platinum", 1):   422,
		strings.Replace(petsDocument, "https:", "ftp:", 1):     422,
		petsDocument + "#" + strings.Repeat("x", maxBodyBytes): 413,
	} {
		a := w.want(want, publisher, "POST", path, body, yaml...)
		refusal(t, "import", a)
	}
	w.want(412, publisher, "POST", path, petsDocument, append(yaml, "If-None-Match", "*")...)
	w.want(415, publisher, "POST", path, petsDocument, "Content-Type", "text/html")
	w.want(422, publisher, "POST", path+"?state=PUBLISHED", petsDocument, yaml...)
	if w.dump() != before {
		t.Error("a refused document has changed something")
	}
}

const maxBodyBytes = 2 << 20
