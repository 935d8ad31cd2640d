package authz

import (
	"strings"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// anonymousUser is the user of a request that needed no credential.
const anonymousUser = "anonymous"

// identity is what the back end and the access log are told about a caller.
// Empty values are left out: Envoy does not take them.
type identity struct {
	application, applicationID, consumerKey, keyType string
	subscriber, user, tier, scopes                   string
	api, apiVersion                                  string
	subscription, organization                       string
	env                                              string
}

func (d *Decision) identity() (id identity) {
	if d.API != nil {
		id.api, id.apiVersion = d.API.Name, d.API.Version
	}
	if d.Reason == allowedAnonymous {
		id.user, id.tier, id.keyType = anonymousUser, string(keymanager.Unauthenticated), string(d.Env)
	}
	if d.Verdict != nil && d.Verdict.Grant != nil {
		g := d.Verdict.Grant
		id.application, id.applicationID = g.Application.Name, string(g.Application.ID)
		id.consumerKey, id.keyType = string(g.ConsumerKey), string(g.KeyType)
		id.subscriber, id.user = g.Subscriber, g.User
		id.organization = string(g.Organization)
		id.scopes = joinScopes(g.Scopes)
		if g.Subscription != nil {
			id.subscription, id.tier = string(g.Subscription.ID), string(g.Subscription.Tier)
		}
	}
	switch d.Env {
	case keymanager.Production:
		id.env = envoy.EnvProduction
	case keymanager.Sandbox:
		id.env = envoy.EnvSandbox
	}
	return id
}

func joinScopes(scopes []keymanager.Scope) string {
	switch len(scopes) {
	case 0:
		return ""
	case 1:
		return string(scopes[0])
	}
	var b strings.Builder
	for i, s := range scopes {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// maxHeaderValue is the longest value that is set: Envoy takes 16 KiB for one,
// and 32 KiB for all headers of a request together. A longer one is left out.
const maxHeaderValue = 8 << 10

// headerValue makes any text a header value that can be read back: what is not
// printable ASCII, and "%", is percent-encoded (RFC 3986 section 2.1).
func headerValue(s string) string {
	if len(s) > maxHeaderValue {
		return ""
	}
	i := 0
	for i < len(s) && plainValue(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := []byte(s[:i])
	for ; i < len(s); i++ {
		if c := s[i]; plainValue(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

func plainValue(c byte) bool { return c >= ' ' && c < 0x7f && c != '%' }
