package openapi

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tollgate/keymanager"
)

// extensions are the x- members of one place in the document. A member of the
// wrong type is a problem, once, and counts as absent.
type extensions struct {
	d      *draft
	at     string // pointer of the place
	values map[string]any
}

func (e extensions) wrong(key, want string) {
	e.d.problem(e.at+"/"+key, "must be %s", want)
}

func (e extensions) text(key string) (string, bool) {
	v, ok := e.values[key]
	if !ok {
		return "", false
	}
	s, ok := v.(string)
	if !ok {
		e.wrong(key, "a text")
	}
	return s, ok
}

func (e extensions) boolean(key string) (value, ok bool) {
	v, ok := e.values[key]
	if !ok {
		return false, false
	}
	if value, ok = v.(bool); !ok {
		e.wrong(key, "true or false")
	}
	return value, ok
}

// list takes a list of texts, or one text with entries between spaces.
func (e extensions) list(key string) ([]string, bool) {
	v, ok := e.values[key]
	if !ok {
		return nil, false
	}
	if s, ok := v.(string); ok {
		return strings.Fields(s), true
	}
	list, ok := texts(v)
	if !ok {
		e.wrong(key, "a list of texts")
	}
	return list, ok
}

func texts(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// object returns a member as a place of its own.
func (e extensions) object(key string) (extensions, bool) {
	v, ok := e.values[key]
	if !ok {
		return extensions{}, false
	}
	m, ok := v.(map[string]any)
	if !ok {
		e.wrong(key, "an object")
	}
	return extensions{e.d, e.at + "/" + key, m}, ok
}

// unknown warns of each x-wso2- member that is not among known.
func (e extensions) unknown(known ...string) {
	var names []string
	for name := range e.values {
		if strings.HasPrefix(name, "x-wso2-") && !slices.Contains(known, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		e.d.warn(e.at+"/"+escape(name), "is not taken over")
	}
}

// others warns of each member that is not among known.
func (e extensions) others(known ...string) {
	var names []string
	for name := range e.values {
		if !slices.Contains(known, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		e.d.warn(e.at+"/"+escape(name), "is not taken over")
	}
}

// cors reads x-wso2-cors.
func (d *draft) cors(root extensions) {
	c, ok := root.object("x-wso2-cors")
	if !ok {
		return
	}
	d.origin["/cors"] = c.at
	c.others("corsConfigurationEnabled", "accessControlAllowOrigins", "accessControlAllowMethods", "accessControlAllowHeaders",
		"accessControlExposeHeaders", "accessControlAllowCredentials", "accessControlAllowMaxAge")
	if enabled, ok := c.boolean("corsConfigurationEnabled"); ok && !enabled {
		return
	}
	out := &keymanager.CORS{}
	out.AllowOrigins, _ = c.list("accessControlAllowOrigins")
	out.AllowMethods, _ = c.list("accessControlAllowMethods")
	for i, m := range out.AllowMethods {
		out.AllowMethods[i] = strings.ToUpper(m)
	}
	out.AllowHeaders, _ = c.list("accessControlAllowHeaders")
	out.ExposeHeaders, _ = c.list("accessControlExposeHeaders")
	out.AllowCredentials, _ = c.boolean("accessControlAllowCredentials")
	if v, ok := c.values["accessControlAllowMaxAge"]; ok {
		seconds, ok := wholeNumber(v)
		if ok {
			out.MaxAge = time.Duration(seconds) * time.Second
		} else {
			c.wrong("accessControlAllowMaxAge", "a whole number of seconds, at most a day")
		}
	}
	for field, key := range map[string]string{"allowOrigins": "accessControlAllowOrigins", "allowMethods": "accessControlAllowMethods",
		"allowHeaders": "accessControlAllowHeaders", "exposeHeaders": "accessControlExposeHeaders", "maxAge": "accessControlAllowMaxAge"} {
		d.origin["/cors/"+field] = c.at + "/" + key + "/"
	}
	d.api.CORS = out
}

// wholeNumber reads a number of seconds.
func wholeNumber(v any) (int64, bool) {
	n, ok := v.(float64)
	ok = ok && 0 <= n && n <= 24*60*60 && n == math.Trunc(n)
	return int64(n), ok
}

// security reads x-wso2-application-security.
func (d *draft) security(root extensions) {
	s, ok := root.object("x-wso2-application-security")
	if !ok {
		return
	}
	d.origin["/security"] = s.at + "/security-types/"
	s.others("security-types", "optional")
	if optional, _ := s.boolean("optional"); optional {
		d.warn(s.at+"/optional", "does not open the API: only x-auth-type None opens an operation")
	}
	types, _ := s.list("security-types")
	for i, t := range types {
		switch t {
		case "oauth2":
			d.api.Security = append(d.api.Security, keymanager.SchemeOAuth2)
		case "api_key":
			d.api.Security = append(d.api.Security, keymanager.SchemeAPIKey)
		default:
			d.problem(s.at+"/security-types/"+strconv.Itoa(i), "must be oauth2 or api_key")
		}
	}
}
