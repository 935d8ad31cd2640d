package apis

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tollgate/keymanager"
)

// node is one segment of the path templates of an API. A path is matched by
// walking down, so the cost depends on its length and not on the number of
// resources.
type node struct {
	plain    []child // sorted by segment
	variable *node   // {name}: any one segment that is not empty
	here     byMethod
	rest     byMethod // "*": whatever follows, also nothing
}

type child struct {
	segment string
	*node
}

type byMethod []*keymanager.Resource

func (m byMethod) find(method string) *keymanager.Resource {
	var other *keymanager.Resource
	for _, r := range m {
		switch r.Method {
		case method:
			return r
		case keymanager.AnyMethod:
			other = r
		}
	}
	return other
}

// add refuses what the key manager should have refused: here an ambiguity would
// choose between two rules.
func (m *byMethod) add(r *keymanager.Resource) error {
	for _, have := range *m {
		if have.Method == r.Method {
			return fmt.Errorf("%s %s matches the same requests as %s", r.Method, r.Path, have.Path)
		}
	}
	*m = append(*m, r)
	return nil
}

func (n *node) add(r *keymanager.Resource) error {
	if r.Method != keymanager.AnyMethod && !keymanager.KnownMethod(r.Method) {
		return fmt.Errorf("unknown method %q", r.Method)
	}
	switch r.AuthType {
	case keymanager.AuthAny, keymanager.AuthApplication, keymanager.AuthApplicationUser, keymanager.AuthNone:
	default:
		return fmt.Errorf("unknown auth type %q", r.AuthType)
	}
	if !strings.HasPrefix(r.Path, "/") {
		return fmt.Errorf("path %q does not start with \"/\"", r.Path)
	}
	if r.Path == "/" {
		return n.here.add(r)
	}
	for rest := r.Path; rest != ""; {
		var segment string
		segment, rest = cut(rest)
		switch {
		case segment == "*" && rest == "":
			return n.rest.add(r)
		case len(segment) > 2 && segment[0] == '{' && strings.IndexByte(segment, '}') == len(segment)-1:
			if n.variable == nil {
				n.variable = new(node)
			}
			n = n.variable
		case segment == "" || strings.ContainsAny(segment, "{}*%"):
			return errors.New("path " + r.Path + " is not made of plain segments, {variables} and a last \"*\"")
		default:
			n = n.child(segment)
		}
	}
	return n.here.add(r)
}

// child returns the node below a plain segment and makes it if it is missing.
func (n *node) child(segment string) *node {
	i, found := n.search(segment)
	if !found {
		n.plain = slices.Insert(n.plain, i, child{segment, new(node)})
	}
	return n.plain[i].node
}

func (n *node) search(segment string) (int, bool) {
	return slices.BinarySearchFunc(n.plain, segment, func(c child, s string) int { return strings.Compare(c.segment, s) })
}

// match finds the resource for what is left of the path: "" or "/" and more.
// doubt ends the search with nothing. Each node is visited once at most.
func (n *node) match(method, path string) (r *keymanager.Resource, doubt bool) {
	if path == "" {
		if r = n.here.find(method); r == nil {
			r = n.rest.find(method)
		}
		return r, false
	}
	segment, rest := cut(path)
	if segment != "" {
		if len(n.plain) > 0 {
			if n.disguised(segment) {
				return nil, true
			}
			if i, found := n.search(segment); found {
				if r, doubt = n.plain[i].match(method, rest); r != nil || doubt {
					return r, doubt
				}
			}
		}
		if n.variable != nil {
			if r, doubt = n.variable.match(method, rest); r != nil || doubt {
				return r, doubt
			}
		}
	}
	return n.rest.find(method), false
}

// disguised reports whether a segment with escapes means the same as a plain
// segment here. A back end would take it for that one, while its bytes lead to
// another rule. (Envoy decodes the unreserved characters only.)
func (n *node) disguised(segment string) bool {
	if strings.IndexByte(segment, '%') < 0 {
		return false
	}
	return slices.ContainsFunc(n.plain, func(c child) bool { return decodesTo(segment, c.segment) })
}

// decodesTo reports whether escaped, decoded once, is plain.
func decodesTo(escaped, plain string) bool {
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c == '%' && i+2 < len(escaped) {
			c = unhex(escaped[i+1])<<4 | unhex(escaped[i+2])
			i += 2
		}
		if plain == "" || c != plain[0] {
			return false
		}
		plain = plain[1:]
	}
	return plain == ""
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	default:
		return c - '0'
	}
}

// cut splits "/segment/rest" into "segment" and "/rest".
func cut(path string) (segment, rest string) {
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}
