package keymanager

import (
	"net/http"
	"strings"
)

// Methods returns the request methods that an API can offer and that authz
// lets pass; every other is refused. QUERY is a safe method with a body.
func Methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"}
}

// KnownMethod reports whether m is one of Methods.
func KnownMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY":
		return true
	default:
		return false
	}
}

// AnyMethod is the method of a resource that stands for all of Methods.
const AnyMethod = "*"

// resources checks the operations of an API.
func (p *problems) resources(a *API) {
	if !p.size("/resources", len(a.Resources), maxResources) {
		return
	}
	type place struct{ method, shape string }
	first := make(map[place]int, len(a.Resources))
	for i := range a.Resources {
		r := &a.Resources[i]
		at := child("/resources", i)
		if r.Method != AnyMethod && !KnownMethod(r.Method) {
			p.add(at+"/method", "must be \"*\" or one of %s", strings.Join(Methods(), ", "))
		}
		shape, why := templateShape(r.Path)
		if why != "" {
			p.add(at+"/path", "%s: a path is \"/\" and segments, each plain, or a whole {variable}, or \"*\" as the last; such as /items/{id} or /files/*", why)
		} else if j, dup := first[place{r.Method, shape}]; dup {
			p.add(at+"/path", "matches the same requests as resource %d (%s %s); each method and path may stand once, whatever its variables are called", j, a.Resources[j].Method, a.Resources[j].Path)
		} else {
			first[place{r.Method, shape}] = i
		}
		if a.Protocol == GRPC {
			p.grpcResource(at, r)
		}
		if a.Protocol == WebSocket && r.Method != AnyMethod && r.Method != http.MethodGet {
			p.add(at+"/method", "must be GET or \"*\" for the protocol %s: a handshake is a GET", WebSocket)
		}
		oneOf(p, at+"/authType", r.AuthType, AuthAny, AuthApplication, AuthApplicationUser, AuthNone)
		p.resourceScopes(at+"/scopes", r)
		if r.Tier != "" {
			p.tier(at+"/tier", r.Tier)
		}
	}
}

// grpcResource checks what gRPC over HTTP/2 leaves of a resource: POST to one
// method of the service, or to all.
func (p *problems) grpcResource(at string, r *Resource) {
	if r.Method != AnyMethod && r.Method != http.MethodPost {
		p.add(at+"/method", "must be POST or \"*\" for a gRPC API")
	}
	if r.Path != "/*" && !isIdentifier(strings.TrimPrefix(r.Path, "/")) {
		p.add(at+"/path", "must be \"/\" and the name of a method of the service, or \"/*\", for a gRPC API")
	}
}

// templateShape returns a path template with its variables' names taken out,
// or says what is wrong with it.
func templateShape(path string) (shape, why string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "", "does not start with \"/\""
	case len(path) > maxPath:
		return "", "is too long"
	case path == "/":
		return path, ""
	}
	var b strings.Builder
	names := map[string]bool{}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		b.WriteByte('/')
		switch {
		case s == "":
			return "", "has an empty segment (\"//\" or a final \"/\")"
		case s == "*":
			if i != len(segments)-1 {
				return "", "has a \"*\" that is not the last segment"
			}
			b.WriteByte('*')
		case s[0] == '{':
			name, closed := strings.CutSuffix(s[1:], "}")
			if !closed || !isVariable(name) {
				return "", "has a variable that is not {name}, with letters, digits and \"_-.\", as a whole segment"
			}
			if names[name] {
				return "", "has two variables of one name"
			}
			names[name] = true
			b.WriteString("{}")
		case s == "." || s == "..":
			return "", "has a segment \".\" or \"..\""
		default:
			for j := range len(s) {
				if !plain(s[j]) {
					return "", "has a character that is not allowed in a plain segment (letters, digits and \"-._~!$&'()+,=:@\")"
				}
			}
			b.WriteString(s)
		}
	}
	return b.String(), ""
}

// plain reports whether c may stand in a plain segment: pchar of RFC 3986
// section 3.3 without "%" and "*", and without ";": back ends disagree whether
// what follows it belongs to the path.
func plain(c byte) bool { return unreserved(c) || strings.IndexByte("!$&'()+,=:@", c) >= 0 }

func isVariable(s string) bool {
	return s != "" && len(s) <= maxLabel && (isAlnum(s[0]) || s[0] == '_') &&
		strings.IndexFunc(s, func(r rune) bool {
			return r > 0x7e || !isAlnum(byte(r)) && !strings.ContainsRune("_-.", r)
		}) < 0
}

// ManagementScopePrefix starts the scopes of the management plane. An API
// cannot name such a scope.
const ManagementScopePrefix = "tollgate:"

// ValidScope reports whether s is a scope token (RFC 6749 section 3.3) of at
// most 128 characters.
func ValidScope(s Scope) bool {
	if len(s) == 0 || len(s) > maxScope {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func (p *problems) resourceScopes(path string, r *Resource) {
	if !p.size(path, len(r.Scopes), maxScopes) {
		return
	}
	if r.AuthType == AuthNone && len(r.Scopes) > 0 {
		p.add(path, "must be empty for a resource of the type %s: nobody is there to have a scope", AuthNone)
	}
	for i, s := range r.Scopes {
		if !ValidScope(s) {
			p.add(child(path, i), "must be 1 to %d printable ASCII characters without space, \" and \\ (RFC 6749 section 3.3)", maxScope)
		} else if s.Management() {
			p.add(child(path, i), "must not start with %q, which belongs to the management plane", ManagementScopePrefix)
		}
	}
	unique(p, path, r.Scopes)
}
