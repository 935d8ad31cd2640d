package admin_test

import (
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

// The description of the API is valid, the same in both forms, and complete.
func TestOpenAPIDocument(t *testing.T) {
	w := newWorld(t)
	doc := w.want(200, "", "GET", "/api/openapi.json", "")
	if doc.text("openapi") != "3.1.0" || doc.header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("%s %v", doc.text("openapi"), doc.header)
	}
	loaded, err := openapi3.NewLoader().LoadFromData(doc.body)
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	asYAML := w.want(200, "", "GET", "/api/openapi.yaml", "")
	var tree any
	if err := yaml.Unmarshal(asYAML.body, &tree); err != nil {
		t.Fatal(err)
	}
	if encode(t, tree) != encode(t, doc.tree) {
		t.Error("JSON and YAML differ")
	}
	for _, r := range w.routes() {
		op := loaded.Paths.Value(r.path).GetOperation(r.method)
		for _, status := range []int{401, 403, 503} {
			answer := op.Responses.Status(status)
			if answer == nil || answer.Value.Content["application/problem+json"] == nil {
				t.Errorf("%s: no problem for %d", r.id, status)
			}
		}
		makes := r.method == "PUT" && !strings.HasSuffix(r.path, "/state") && r.id != "put-key" || r.id == "import-api" || strings.HasPrefix(r.id, "create-")
		if made := op.Responses.Status(201) != nil; made != makes {
			t.Errorf("%s: answers 201: %t", r.id, made)
		}
		if len(op.Tags) != 1 || op.Summary == "" || !strings.Contains(op.Description, "tollgate:") {
			t.Errorf("%s: tags %v, %q, %q", r.id, op.Tags, op.Summary, op.Description)
		}
		if writes := r.method == "PUT" || r.method == "POST"; writes != (op.RequestBody != nil) {
			t.Errorf("%s: body %v", r.id, op.RequestBody)
		}
		for _, p := range op.Parameters {
			if p.Value.In == "path" && !strings.Contains(r.path, "{"+p.Value.Name+"}") {
				t.Errorf("%s: parameter %s is not in %s", r.id, p.Value.Name, r.path)
			}
		}
		if n := strings.Count(r.path, "{"); n > len(op.Parameters) {
			t.Errorf("%s: %d parameters for %s", r.id, len(op.Parameters), r.path)
		}
	}
	problem := loaded.Components.Schemas["Problem"]
	if problem == nil || problem.Value.Properties["errors"] == nil || loaded.Components.Schemas["ErrorModel"] != nil {
		t.Error("no schema of problems")
	}
}
