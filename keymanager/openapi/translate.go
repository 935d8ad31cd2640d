package openapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"tollgate/keymanager"
)

// draft is an API that is being put together, with where its parts come from.
type draft struct {
	doc      *openapi3.T
	api      keymanager.API
	problems reports
	warnings reports
	// origin is the pointer into the document for a pointer into the API. What
	// ends with "/" is a list whose entries are those of the API.
	origin map[string]string
}

// reports is a list of findings: each once, and not too many.
type reports struct {
	list []keymanager.FieldError
	seen map[string]bool
}

// maxReports is how many findings an answer holds.
const maxReports = 100

func (r *reports) add(pointer, detail string) {
	key := pointer + "\n" + detail
	if r.seen[key] || len(r.list) > maxReports {
		return
	}
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	r.seen[key] = true
	if len(r.list) == maxReports {
		pointer, detail = "", "there is more of this kind"
	}
	r.list = append(r.list, keymanager.FieldError{Path: pointer, Detail: detail})
}

func (d *draft) problem(pointer, format string, args ...any) {
	d.problems.add(pointer, fmt.Sprintf(format, args...))
}

func (d *draft) warn(pointer, format string, args ...any) {
	d.warnings.add(pointer, fmt.Sprintf(format, args...))
}

// translate makes an API of a document.
func translate(doc *openapi3.T, as As) (*Result, error) {
	d := &draft{doc: doc, origin: map[string]string{}, api: keymanager.API{
		Protocol: keymanager.HTTP1,
		Timeout:  keymanager.DefaultTimeout,
		State:    keymanager.StateCreated,
	}}
	root := extensions{d, "", doc.Extensions}
	d.names(root, as)
	d.endpoints(root)
	d.resources(root)
	d.cors(root)
	d.security(root)
	root.unknown("x-wso2-basePath", "x-wso2-production-endpoints", "x-wso2-sandbox-endpoints", "x-wso2-throttling-tier",
		"x-wso2-disable-security", "x-wso2-cors", "x-wso2-application-security")
	for _, f := range keymanager.ValidateAPI(&d.api) {
		pointer, field := d.where(f.Path)
		d.problem(pointer, "%s%s", field, f.Detail)
	}
	if err := keymanager.Invalid("the description cannot be imported", d.problems.list); err != nil {
		return nil, err
	}
	return &Result{API: d.api, Warnings: d.warnings.list}, nil
}

// where returns the place in the document that a pointer into the API comes
// from: that of its longest known beginning, and the rest as words.
func (d *draft) where(pointer string) (at, field string) {
	for p := pointer; p != ""; p = p[:strings.LastIndexByte(p, '/')] {
		at, ok := d.origin[p]
		rest := strings.TrimPrefix(pointer[len(p):], "/")
		switch list, isList := strings.CutSuffix(at, "/"); {
		case !ok:
		case rest == "":
			return strings.TrimSuffix(at, "/"), ""
		case isList:
			return list + "/" + rest, ""
		default:
			return at, strings.ReplaceAll(rest, "/", " ") + ": "
		}
	}
	return "", strings.TrimPrefix(pointer, "/") + ": "
}

// names finds name, version and context.
func (d *draft) names(root extensions, as As) {
	a := &d.api
	a.Name, a.Version = as.Name, as.Version
	if a.Version == "" {
		a.Version = d.doc.Info.Version
		d.origin["/version"] = "/info/version"
	}
	slugged := slug(d.doc.Info.Title)
	if a.Name == "" {
		a.Name = slugged
		d.origin["/name"] = "/info/title"
	}
	a.Context = as.Context
	if a.Context != "" {
		return
	}
	base, ok := root.text("x-wso2-basePath")
	if !ok {
		a.Context = "/" + strings.ToLower(slugged)
		d.origin["/context"] = "/info/title"
		d.warn("/x-wso2-basePath", "is not given: the API answers at %s, after its title", a.BasePath())
		return
	}
	d.origin["/context"] = "/x-wso2-basePath"
	a.Context = strings.TrimSuffix(base, "/")
	if context, found := strings.CutSuffix(a.Context, "/{version}"); found {
		a.Context = context
	} else if context, found := strings.CutSuffix(a.Context, "/"+a.Version); found {
		a.Context = context
	} else {
		d.warn("/x-wso2-basePath", "does not end with the version: the API answers at %s", a.BasePath())
	}
}

// slug turns a title into a name: runs of what a name must not hold become one
// "-".
func slug(title string) string {
	parts := strings.FieldsFunc(title, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_')
	})
	s := strings.Join(parts, "-")
	return strings.Trim(s[:min(len(s), 100)], "-._")
}

// resources turns operations into resources, in order of path and method.
func (d *draft) resources(root extensions) {
	paths := d.doc.Paths.Map()
	names := make([]string, 0, len(paths))
	for name := range paths {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		item := paths[name]
		at := "/paths/" + escape(name)
		if item == nil {
			continue
		}
		path := extensions{d, at, item.Extensions}
		path.unknown("x-wso2-throttling-tier", "x-wso2-disable-security", "x-wso2-production-endpoints", "x-wso2-sandbox-endpoints")
		d.ownEndpoints(path, len(item.Servers) > 0)
		for method := range item.AdditionalOperations {
			d.warn(at+"/additionalOperations/"+escape(method), "is left out: gateways let no such method pass")
		}
		for _, method := range keymanager.Methods() {
			if operation := item.GetOperation(method); operation != nil {
				d.resource(root, path, name, method, operation)
			}
		}
		if item.Trace != nil {
			d.warn(at+"/trace", "is left out: gateways let no such method pass")
		}
	}
}

func (d *draft) resource(root, path extensions, name, method string, operation *openapi3.Operation) {
	op := extensions{d, path.at + "/" + strings.ToLower(method), operation.Extensions}
	op.unknown("x-wso2-throttling-tier", "x-wso2-disable-security", "x-wso2-production-endpoints", "x-wso2-sandbox-endpoints")
	d.ownEndpoints(op, operation.Servers != nil && len(*operation.Servers) > 0)
	r := keymanager.Resource{Method: method, Path: name, AuthType: d.authType(op, path, root)}
	for _, level := range []extensions{op, path, root} {
		tier, ok := level.text("x-wso2-throttling-tier")
		if !ok {
			tier, ok = level.text("x-throttling-tier")
		}
		if ok {
			r.Tier = keymanager.TierName(tier)
			break
		}
	}
	r.Scopes = d.scopes(op, operation.Security)
	if len(r.Scopes) == 0 && r.AuthType != keymanager.AuthNone {
		r.Scopes = d.inheritedScopes(path, root, operation)
	}
	if open := operation.Security; open != nil && r.AuthType != keymanager.AuthNone && optional(*open) {
		d.warn(op.at+"/security", "does not open the operation: only x-auth-type None does")
	}
	d.origin[fmt.Sprintf("/resources/%d", len(d.api.Resources))] = op.at
	d.origin[fmt.Sprintf("/resources/%d/path", len(d.api.Resources))] = path.at
	d.api.Resources = append(d.api.Resources, r)
}

// optional reports whether a document asks for no credential.
func optional(s openapi3.SecurityRequirements) bool {
	return len(s) == 0 || slices.ContainsFunc(s, func(r openapi3.SecurityRequirement) bool { return len(r) == 0 })
}

// authType finds the level of authentication: what stands nearest counts.
func (d *draft) authType(levels ...extensions) keymanager.AuthType {
	for _, level := range levels {
		disabled, hasSwitch := level.boolean("x-wso2-disable-security")
		text, hasType := level.text("x-auth-type")
		var t keymanager.AuthType
		if hasType {
			switch strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), "_", " ")) {
			case "none":
				t = keymanager.AuthNone
			case "application":
				t = keymanager.AuthApplication
			case "application user":
				t = keymanager.AuthApplicationUser
			case "any", "application & application user":
				t = keymanager.AuthAny
			default:
				d.problem(level.at+"/x-auth-type", "must be None, Application, Application User, Application & Application User, or Any")
				return keymanager.AuthAny
			}
		}
		switch {
		case disabled && hasType && t != keymanager.AuthNone:
			d.problem(level.at+"/x-wso2-disable-security", "contradicts x-auth-type")
			return t
		case disabled:
			return keymanager.AuthNone
		case hasType:
			return t
		case hasSwitch:
			return keymanager.AuthAny
		}
	}
	return keymanager.AuthAny
}

// inheritedScopes returns those of the path, else those of the whole API.
func (d *draft) inheritedScopes(path, root extensions, operation *openapi3.Operation) []keymanager.Scope {
	if list := d.scopes(path, nil); len(list) > 0 {
		return list
	}
	security := &d.doc.Security
	if operation.Security != nil { // it takes the place of the API's
		security = nil
	}
	return d.scopes(root, security)
}

// scopes returns those that one level asks for, each once. The gateway asks for
// any one of them.
func (d *draft) scopes(level extensions, security *openapi3.SecurityRequirements) []keymanager.Scope {
	var out []keymanager.Scope
	add := func(list ...string) {
		for _, s := range list {
			if scope := keymanager.Scope(s); !slices.Contains(out, scope) {
				out = append(out, scope)
			}
		}
	}
	for _, key := range []string{"x-scopes", "x-scope"} {
		list, _ := level.list(key)
		add(list...)
	}
	if security == nil {
		return out
	}
	for i, requirement := range *security {
		names := make([]string, 0, len(requirement))
		for name := range requirement {
			names = append(names, name)
		}
		slices.Sort(names)
		all := 0
		for _, name := range names {
			add(requirement[name]...)
			all += len(requirement[name])
		}
		if all > 1 {
			d.warn(fmt.Sprintf("%s/security/%d", level.at, i), "asks for all of %d scopes; the gateway asks for any one of them", all)
		}
	}
	return out
}

// escape writes a name into a JSON pointer (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
