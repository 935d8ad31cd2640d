package openapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

// load turns a tree into a document of OpenAPI 3. Schemas, parameters, bodies
// and examples, which fill most documents and say nothing to a gateway, are
// left out before: what they refer to is then not looked for, neither in this
// document nor in another.
func load(ctx context.Context, tree map[string]any) (*openapi3.T, error) {
	version, isText := tree["openapi"].(string)
	old, isSwagger := tree["swagger"].(string)
	switch {
	case isText && (version == "3.0" || version == "3.1" || version == "3.2" ||
		strings.HasPrefix(version, "3.0.") || strings.HasPrefix(version, "3.1.") || strings.HasPrefix(version, "3.2.")):
	case isSwagger && !isText && old == "2.0":
	default:
		return nil, invalid("", "the document says neither openapi: 3.0, 3.1 or 3.2, nor swagger: \"2.0\"")
	}
	text, err := json.Marshal(prune(tree))
	if err != nil {
		return nil, invalid("", "%v", err)
	}
	loader := &openapi3.Loader{Context: ctx, IsExternalRefsAllowed: false}
	var doc *openapi3.T
	if isText {
		doc, err = loader.LoadFromData(text)
	} else {
		var swagger openapi2.T
		if err = json.Unmarshal(text, &swagger); err == nil {
			doc, err = openapi2conv.ToV3WithLoader(&swagger, loader, nil)
		}
	}
	if err != nil {
		return nil, invalid("", "the document is not valid OpenAPI: %s", firstLine(err))
	}
	if doc.Info == nil {
		return nil, invalid("/info", "is missing")
	}
	return doc, nil
}

// firstLine bounds the text of a library's error, which can hold much of the
// document.
func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Sprintf("%.300s", strings.ToValidUTF8(s, ""))
}

// prune returns the part of a document that load needs.
func prune(tree map[string]any) map[string]any {
	out := pick(tree, "openapi", "swagger", "info", "servers", "security", "host", "basePath", "schemes")
	if components, ok := tree["components"].(map[string]any); ok {
		out["components"] = map[string]any{}
		if items, ok := components["pathItems"].(map[string]any); ok {
			// Not a field that the library knows, but one that it can refer to.
			out["components"] = map[string]any{"pathItems": prunePaths(items)}
		}
	}
	if paths, ok := tree["paths"].(map[string]any); ok {
		out["paths"] = prunePaths(paths)
	} else if tree["paths"] != nil {
		out["paths"] = tree["paths"] // for the library to refuse
	} else {
		out["paths"] = map[string]any{}
	}
	return out
}

func prunePaths(paths map[string]any) map[string]any {
	out := map[string]any{}
	for path, item := range paths {
		m, ok := item.(map[string]any)
		if !ok || strings.HasPrefix(path, "x-") {
			out[path] = item
			continue
		}
		kept := pick(m, "$ref", "servers")
		if more, ok := m["additionalOperations"].(map[string]any); ok {
			names := map[string]any{}
			for name := range more {
				names[name] = map[string]any{}
			}
			kept["additionalOperations"] = names
		}
		for name, value := range m {
			if operation, ok := value.(map[string]any); ok && isMethod(name) {
				kept[name] = pick(operation, "security", "servers", "operationId")
			} else if isMethod(name) && value != nil {
				kept[name] = value
			}
		}
		out[path] = kept
	}
	return out
}

func isMethod(name string) bool {
	switch name {
	case "get", "head", "post", "put", "patch", "delete", "options", "trace", "query":
		return true
	default:
		return false
	}
}

// pick returns the members of m with these names, and the extensions.
func pick(m map[string]any, names ...string) map[string]any {
	out := map[string]any{}
	for _, name := range names {
		if v, ok := m[name]; ok {
			out[name] = v
		}
	}
	for name, v := range m {
		if strings.HasPrefix(name, "x-") {
			out[name] = v
		}
	}
	return out
}
