package authz

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"tollgate/envoy"
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
	okResponseHeaders  = 6
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
	// addIfAbsent is ADD_IF_ABSENT.
	addIfAbsent = 1

	structFields = 1 // google.protobuf.Struct
	valueString  = 3 // google.protobuf.Value
)

// ok writes the CheckResponse that lets a request through.
func (d *Decision) ok() []byte {
	id := d.identity()
	b := make([]byte, 0, 2048)
	b = append(b, responseStatus<<3|2, 0) // code 0
	b, at := openMessage(b, responseOK)
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
	b = appendProtocols(b, d.strip.protocols)
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
	b, at := openMessage(b, responseStatus)
	b = appendVarint(b, statusCode, uint64(t.grpcCode()))
	b = closeMessage(b, at)
	b, at = openMessage(b, field)
	b, inner := openMessage(b, deniedStatus)
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
	b, at := openMessage(b, responseMetadata)
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

// appendHeader writes one HeaderValueOption that overwrites. A header without a
// value is left out.
func appendHeader(b []byte, field int, name, value string) []byte {
	return appendHeaderAs(b, field, overwrite, name, value)
}

func appendHeaderAs(b []byte, field int, action byte, name, value string) []byte {
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
	return append(b, optionAction<<3, action)
}
