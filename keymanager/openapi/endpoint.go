package openapi

import (
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// endpoints finds the back ends: those of the extensions, else the first
// server. Servers after the first are mostly other environments, so that they
// must not get production's calls.
func (d *draft) endpoints(root extensions) {
	d.api.Production, _ = d.list(root, "x-wso2-production-endpoints", "/production")
	d.api.Sandbox, _ = d.list(root, "x-wso2-sandbox-endpoints", "/sandbox")
	if d.named(root) {
		return
	}
	servers := d.doc.Servers
	if len(servers) > 1 {
		d.warn("/servers", "only the first server is taken, as the production endpoint")
	}
	for _, server := range servers[:min(1, len(servers))] {
		if server == nil {
			continue
		}
		if url := fill(server); strings.Contains(url, "://") {
			d.api.Production = []string{url}
			d.origin["/production/0"] = "/servers/0/url"
		}
	}
	if len(d.api.Production) == 0 {
		d.warn("/servers", "names no back end (an absolute URL): the API cannot be published before it has one")
	}
}

// named reports whether extensions name the back ends.
func (d *draft) named(root extensions) bool {
	return root.values["x-wso2-production-endpoints"] != nil || root.values["x-wso2-sandbox-endpoints"] != nil
}

// list reads an extension {urls: [...]}.
func (d *draft) list(root extensions, key, field string) ([]string, bool) {
	if _, isText := root.values[key].(string); isText {
		d.problem("/"+key, "must be an object with urls: references to x-wso2-endpoints are not followed")
		return nil, false
	}
	e, ok := root.object(key)
	if !ok {
		return nil, false
	}
	e.others("urls", "type", "advanceEndpointConfig")
	d.advanced(e, field == "/sandbox" && root.values["x-wso2-production-endpoints"] != nil)
	if t, _ := e.text("type"); strings.EqualFold(t, "failover") {
		d.warn(e.at+"/type", "is not taken over: calls are spread over all endpoints")
	}
	d.origin[field] = e.at + "/urls/"
	return e.list("urls")
}

// fill puts the defaults of its variables into the URL of a server, as long as
// that is one.
func fill(server *openapi3.Server) string {
	const most = 2000
	url := server.URL
	for _, name := range slices.Sorted(maps.Keys(server.Variables)) {
		v, variable := server.Variables[name], "{"+name+"}"
		if v == nil || len(url) > most || len(v.Default) > most {
			continue
		}
		if more := strings.ReplaceAll(url, variable, v.Default); len(more) <= most {
			url = more
		}
	}
	return url
}

// ownEndpoints refuses a path or an operation that has back ends of its own:
// its calls would go to those of the API.
func (d *draft) ownEndpoints(level extensions, servers bool) {
	for _, key := range []string{"x-wso2-production-endpoints", "x-wso2-sandbox-endpoints"} {
		if level.values[key] != nil {
			d.problem(level.at+"/"+key, "must stand at the top: all operations of an API have the same endpoints")
		}
	}
	if servers && !d.named(extensions{d, "", d.doc.Extensions}) {
		d.problem(level.at+"/servers", "must stand at the top: all operations of an API have the same endpoints")
	}
}
