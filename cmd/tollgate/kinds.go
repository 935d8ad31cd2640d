package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tollgate/keymanager/admin"
)

// clientKind is one kind of object as the commands know it: its names, where
// it is in the management API, and what a table shows of it.
type clientKind struct {
	names   []string // the first is that of the collection in URLs
	global  bool     // not below an organization
	columns []column
}

// column shows one value of an object: path is its keys, from the top.
type column struct{ title, path string }

var clientKinds = []clientKind{
	{names: []string{"organizations", "organization", "org"}, global: true, columns: []column{{"DISPLAY NAME", "spec.displayName"}}},
	{names: []string{"users", "user"}, columns: []column{{"EMAIL", "spec.email"}, {"STATUS", "spec.status"}}},
	{names: []string{"tiers", "tier"}, columns: []column{{"REQUESTS", "spec.requests"}, {"UNIT", "spec.unit"}}},
	{names: []string{"apis", "api"}, columns: []column{{"VERSION", "spec.version"}, {"CONTEXT", "spec.context"}, {"STATE", "spec.state"}, {"TIERS", "spec.tiers"}}},
	{names: []string{"applications", "application", "app"}, columns: []column{{"OWNER", "spec.owner"}, {"TIER", "spec.tier"}, {"STATUS", "spec.status"}}},
	{names: []string{"subscriptions", "subscription", "sub"}, columns: []column{
		{"APPLICATION", "spec.application"}, {"API", "spec.api"}, {"TIER", "spec.tier"}, {"STATE", "spec.state"}}},
}

// kindNames lists what a person may type.
func kindNames() string {
	var names []string
	for _, k := range clientKinds {
		names = append(names, k.names[0])
	}
	return strings.Join(names, ", ")
}

// findKind finds a kind by any of its names, in any case.
func findKind(name string) (clientKind, error) {
	for _, k := range clientKinds {
		if slices.Contains(k.names, strings.ToLower(name)) {
			return k, nil
		}
	}
	return clientKind{}, fmt.Errorf("unknown kind %q; known are %s, and for get also gateways", name, kindNames())
}

// checkName refuses a name that cannot be one of the kind's, before it becomes
// a URL that nothing is at.
func (k clientKind) checkName(name string) error {
	parts := strings.Split(name, "/")
	switch {
	case slices.Contains(parts, ""):
		return fmt.Errorf("%q is not a name", name)
	case k.names[0] == "apis" && len(parts) != 2:
		return fmt.Errorf("%q is not an API: name it with its version, as in pets/1.0.0", name)
	case k.names[0] == "users" && len(parts) > 2, k.names[0] != "apis" && k.names[0] != "users" && len(parts) > 1:
		return fmt.Errorf("%q is not the name of one of the %s", name, k.names[0])
	}
	return nil
}

// path returns where the kind's objects are, or one of them ("" = all).
func (k clientKind) path(org, name string) string {
	p := admin.Prefix
	if !k.global {
		p += "/organizations/" + url.PathEscape(org)
	}
	p += "/" + k.names[0]
	if name == "" {
		return p
	}
	if k.names[0] == "users" && !strings.Contains(name, "/") {
		name = "PRIMARY/" + name
	}
	parts := []string{p}
	for part := range strings.SplitSeq(name, "/") {
		parts = append(parts, url.PathEscape(part))
	}
	return strings.Join(parts, "/")
}

// listed is one page of a collection.
type listed struct {
	Items []json.RawMessage `json:"items"`
	Total int               `json:"total"`
}

// list reads all pages of a collection.
func (c *client) list(ctx context.Context, path string) ([]json.RawMessage, error) {
	const pageSize = 500
	var all []json.RawMessage
	for {
		var page listed
		query := fmt.Sprintf("?limit=%d&offset=%d", pageSize, len(all))
		if err := c.call(ctx, http.MethodGet, path+query, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if len(page.Items) == 0 || len(all) >= page.Total {
			return all, nil
		}
	}
}
