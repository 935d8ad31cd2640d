package authz

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// Numbers of the fields that are written (envoy/service/auth/v3).
const (
	responseStatus   = 1 // CheckResponse
	responseDenied   = 2
	responseOK       = 3
	responseMetadata = 4
	responseError    = 5

	statusCode = 1 // google.rpc.Status

	okHeaders          = 2 // OkHttpResponse
	okHeadersToRemove  = 5
	okParametersRemove = 8

	deniedStatus  = 1 // DeniedHttpResponse
	deniedHeaders = 2
	deniedBody    = 3

	httpStatusCode = 1 // type.v3.HttpStatus

	optionHeader = 1 // config.core.v3.HeaderValueOption
	optionAction = 3

	// overwrite is OVERWRITE_IF_EXISTS_OR_ADD. It is always set: what an unset
	// one means differs between versions of Envoy.
	overwrite = 2

	structFields = 1 // google.protobuf.Struct
	valueString  = 3 // google.protobuf.Value
)

// Anonymous is the user of a request that needed no credential.
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

// ok writes the CheckResponse that lets a request through.
func (d *Decision) ok() []byte {
	id := d.identity()
	b := make([]byte, 0, 2048)
	b = append(b, responseStatus<<3|2, 0) // code 0
	b, at := open(b, responseOK)
	for _, h := range [...]struct{ name, value string }{
		{envoy.HeaderApplication, id.application},
		{envoy.HeaderApplicationID, id.applicationID},
		{envoy.HeaderConsumerKey, id.consumerKey},
		{envoy.HeaderKeyType, id.keyType},
		{envoy.HeaderSubscriber, id.subscriber},
		{envoy.HeaderUser, id.user},
		{envoy.HeaderAPI, id.api},
		{envoy.HeaderAPIVersion, id.apiVersion},
		{envoy.HeaderSubscriptionTier, id.tier},
		{envoy.HeaderScopes, id.scopes},
		{envoy.HeaderEnv, id.env},
	} {
		b = appendHeader(b, okHeaders, h.name, headerValue(h.value))
	}
	if d.strip.authorization {
		b = appendString(b, okHeadersToRemove, envoy.HeaderAuthorization)
	}
	if d.strip.apiKey {
		b = appendString(b, okHeadersToRemove, envoy.HeaderAPIKey)
	}
	for i, yes := range d.strip.parameters {
		if yes {
			b = appendString(b, okParametersRemove, leaked[i])
		}
	}
	b = closeMessage(b, at)
	return appendMetadata(b, &id, "")
}

// headersAndBody is what a caller is told who is not let through.
type headersAndBody struct {
	headers []header
	body    string
}

type header struct{ name, value string }

// refusal writes the CheckResponse of a denial or, for what is not decided, of
// an error: Envoy counts the two apart.
func (d *Decision) refusal(to headersAndBody) []byte {
	t := d.Reason.text()
	field := responseError
	if d.Reason.outcome() == outcomeDenied {
		field = responseDenied
	}
	b := make([]byte, 0, 1024)
	b, at := open(b, responseStatus)
	b = appendVarint(b, statusCode, uint64(t.grpcCode()))
	b = closeMessage(b, at)
	b, at = open(b, field)
	b, inner := open(b, deniedStatus)
	b = appendVarint(b, httpStatusCode, uint64(t.status))
	b = closeMessage(b, inner)
	for _, h := range to.headers {
		b = appendHeader(b, deniedHeaders, h.name, h.value)
	}
	if to.body != "" {
		b = appendString(b, deniedBody, to.body)
	}
	b = closeMessage(b, at)
	id := d.identity()
	return appendMetadata(b, &id, t.name)
}

// lastResort is the answer when answering failed: an error, 503.
func lastResort() []byte {
	d := Decision{Reason: panicked}
	return d.refusal(headersAndBody{headers: []header{{"retry-after", "1"}}})
}

// appendMetadata writes the dynamic metadata: strings that are not empty, and
// the reason of what is not OK.
func appendMetadata(b []byte, id *identity, reason string) []byte {
	b, at := open(b, responseMetadata)
	for _, m := range [...]struct{ key, value string }{
		{envoy.MetaApplication, id.application},
		{envoy.MetaApplicationID, id.applicationID},
		{envoy.MetaConsumerKey, id.consumerKey},
		{envoy.MetaKeyType, id.keyType},
		{envoy.MetaSubscription, id.subscription},
		{envoy.MetaSubscriber, id.subscriber},
		{envoy.MetaUser, id.user},
		{envoy.MetaOrganization, id.organization},
		{envoy.MetaAPI, id.api},
		{envoy.MetaAPIVersion, id.apiVersion},
		{envoy.MetaTier, id.tier},
		{envoy.MetaScopes, id.scopes},
		{envoy.MetaReason, reason},
	} {
		if m.value == "" {
			continue
		}
		value := strings.ToValidUTF8(m.value, "\uFFFD")
		inner := fieldSize(len(value))
		b = append(b, structFields<<3|2)
		b = protowire.AppendVarint(b, uint64(fieldSize(len(m.key))+fieldSize(inner)))
		b = appendString(b, pairKey, m.key)
		b = append(b, pairValue<<3|2)
		b = protowire.AppendVarint(b, uint64(inner))
		b = appendString(b, valueString, value)
	}
	return closeMessage(b, at)
}

// appendHeader writes one HeaderValueOption. A header without a value is left
// out.
func appendHeader(b []byte, field int, name, value string) []byte {
	if value == "" {
		return b
	}
	inner := fieldSize(len(name)) + fieldSize(len(value))
	b = append(b, byte(field<<3|2))
	b = protowire.AppendVarint(b, uint64(fieldSize(inner)+2))
	b = append(b, optionHeader<<3|2)
	b = protowire.AppendVarint(b, uint64(inner))
	b = appendString(b, pairKey, name)
	b = appendString(b, pairValue, value)
	return append(b, optionAction<<3, overwrite)
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

func appendString(b []byte, field int, s string) []byte {
	b = append(b, byte(field<<3|2))
	b = protowire.AppendVarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendVarint(b []byte, field int, n uint64) []byte {
	return protowire.AppendVarint(append(b, byte(field<<3)), n)
}

// fieldSize is the size of a length-delimited field with n bytes and a number
// below 16.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

// open begins a nested message. close puts its length before it.
func open(b []byte, field int) ([]byte, int) {
	b = append(b, byte(field<<3|2))
	return b, len(b)
}

func closeMessage(b []byte, at int) []byte {
	n := len(b) - at
	size := protowire.SizeVarint(uint64(n))
	b = append(b, "0123456789"[:size]...) // room
	copy(b[at+size:], b[at:at+n])
	protowire.AppendVarint(b[:at], uint64(n))
	return b
}
