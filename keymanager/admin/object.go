package admin

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// Object is one object as it is shown: its identity, what the server knows of
// it, and its spec. Kind, organization, name and spec make a document for
// apply.
type Object[S any] struct {
	Kind         string    `json:"kind"`
	Organization string    `json:"organization"`
	Name         string    `json:"name" doc:"with the organization, the identity; a user's is DOMAIN/name outside of the domain PRIMARY"`
	ID           string    `json:"id" doc:"made by the server; never changes"`
	Revision     int64     `json:"revision,omitempty" doc:"grows with each change; the ETag"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
	BuiltIn      bool      `json:"builtIn,omitempty" doc:"made by the key manager for itself; not to be changed"`
	Spec         S         `json:"spec"`
}

// List is one page of a list, in order of name.
type List[T any] struct {
	Items  []T `json:"items"`
	Total  int `json:"total" doc:"of all pages"`
	Offset int `json:"offset"`
	Limit  int `json:"limit"`
}

// PageQuery asks for a page.
type PageQuery struct {
	Offset int `query:"offset" minimum:"0" default:"0"`
	Limit  int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (q PageQuery) page() store.Page { return store.Page{Offset: q.Offset, Limit: q.Limit} }

func listOf[T any](items []T, total int, q PageQuery) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Items: items, Total: total, Offset: q.Offset, Limit: q.Limit}
}

// Conditions make a write depend on what is there (RFC 9110 section 13.1).
type Conditions struct {
	IfMatch     string `header:"If-Match" doc:"ETags of which one must be the object's; *: it must exist"`
	IfNoneMatch string `header:"If-None-Match" doc:"*: it must not exist"`
}

// given reports whether the write depends on anything.
func (c Conditions) given() bool { return c.IfMatch != "" || c.IfNoneMatch != "" }

// hold compares with the object's revision, 0 if there is none.
func (c Conditions) hold(revision int64) error {
	exists := revision != 0
	if c.IfMatch != "" && !(exists && matches(c.IfMatch, revision)) {
		if !exists {
			return keymanager.Errorf(keymanager.KindPrecondition, "If-Match: there is no such object")
		}
		return keymanager.Errorf(keymanager.KindPrecondition, "If-Match: the object's ETag is %s now", etag(revision))
	}
	if c.IfNoneMatch != "" && exists && matches(c.IfNoneMatch, revision) {
		return keymanager.Errorf(keymanager.KindPrecondition, "If-None-Match: the object exists, with the ETag %s", etag(revision))
	}
	return nil
}

// matches compares strongly: a weak tag matches nothing.
func matches(header string, revision int64) bool {
	for _, tag := range strings.Split(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag(revision) {
			return true
		}
	}
	return false
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// organizationPath returns the URL path of something of an organization.
func organizationPath(org keymanager.OrganizationID, parts ...string) string {
	return Prefix + "/organizations/" + url.PathEscape(string(org)) + pathOf(parts)
}

// pathOf returns parts as segments of a URL path, each behind a "/".
func pathOf(parts []string) string {
	var path strings.Builder
	for _, p := range parts {
		path.WriteString("/" + url.PathEscape(p))
	}
	return path.String()
}

// objectOut is the answer to a GET and to a write of one object.
type objectOut[S any] struct {
	Status   int
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Object[S]
}

// pageOut is the answer to a GET of a list.
type pageOut[T any] struct{ Body List[T] }

// nothing is an input or an answer without content.
type nothing struct{}
