package xds

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/envoy"
)

// localReplies gives the answers that Envoy makes itself the JSON body of
// authz's. The first mapper that matches wins; one without a format leaves the
// reply alone. The texts are constant: Envoy's details name back ends.
//
// Authz sets metadata "reason" on every answer that is not OK, and never on an
// OK: a reply of the filter without it is Envoy's own failure to ask, or an OK
// whose mutations were refused.
func localReplies() *hcmv3.LocalReplyConfig {
	unanswered := []*accesslogv3.AccessLogFilter{byFlag("UAEX"), withoutReason()}
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		later(mapper(both(byStatus(accesslogv3.ComparisonFilter_EQ, 503, "tollgate.lr.authz_unavailable"), unanswered...),
			"900900", "Unclassified Authentication Failure", "Authorization is unavailable")),
		mapper(both(byStatus(accesslogv3.ComparisonFilter_GE, 500, "tollgate.lr.authz_invalid"), unanswered...),
			sameStatus, "Internal Server Error", "Authorization failed"),
		{Filter: byFlag("UAEX")}, // authz's own words
		mapper(byFlag("NR"), "404", "Not Found", "No such API"),
		// By status: the flag RL is set only after the reply was written.
		mapper(byStatus(accesslogv3.ComparisonFilter_EQ, 429, "tollgate.lr.rate_limited"),
			"900800", "Message throttled out", "You have exceeded your quota"),
		mapper(byFlag("NC", "UH", "UF", "UC", "UO", "UT", "URX", "LR", "UR", "OM", "DPE", "DT", "SI"),
			sameStatus, "Gateway Error", "The back end could not be reached"),
		// What is left: path normalisation 400, refused upgrade 403, 431, 501 ...
		mapper(byStatus(accesslogv3.ComparisonFilter_GE, 400, "tollgate.lr.rejected"),
			sameStatus, "Request Rejected", "The gateway refused the request"),
	}}
}

// sameStatus is the status as a string; RESPONSE_CODE would be a number.
const sameStatus = "%RESP(:STATUS)%"

func mapper(filter *accesslogv3.AccessLogFilter, code, message, description string) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter: filter,
		BodyFormatOverride: &corev3.SubstitutionFormatString{Format: jsonFormat(map[string]string{
			"code": code, "message": message, "description": description, "request_id": "%REQ(X-REQUEST-ID)%",
		})},
	}
}

// later adds Retry-After: an outage is not the caller's fault.
func later(m *hcmv3.ResponseMapper) *hcmv3.ResponseMapper {
	m.HeadersToAdd = []*corev3.HeaderValueOption{{
		Header:       &corev3.HeaderValue{Key: "retry-after", Value: "1"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}
	return m
}

func byFlag(flags ...string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: flags},
	}}
}

func byStatus(op accesslogv3.ComparisonFilter_Op, status uint32, key string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: status, RuntimeKey: key},
		}},
	}}
}

// withoutReason matches when there is no metadata "reason": "-" is never one.
func withoutReason() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{
		MetadataFilter: &accesslogv3.MetadataFilter{
			Matcher: &matcherv3.MetadataMatcher{
				Filter: envoy.AuthzMetadata,
				Path: []*matcherv3.MetadataMatcher_PathSegment{{
					Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: envoy.MetaReason},
				}},
				Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exact("-")}},
			},
			MatchIfKeyNotFound: wrapperspb.Bool(true),
		},
	}}
}

func both(first *accesslogv3.AccessLogFilter, rest ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: append([]*accesslogv3.AccessLogFilter{first}, rest...)},
	}}
}

func jsonFormat(fields map[string]string) *corev3.SubstitutionFormatString_JsonFormat {
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(fields))}
	for k, v := range fields {
		s.Fields[k] = structpb.NewStringValue(v)
	}
	return &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: s}
}

// logFormat is one JSON object per request: no credential, no query string.
func logFormat() *corev3.SubstitutionFormatString {
	authz := func(key string) string { return "%DYNAMIC_METADATA(" + envoy.AuthzMetadata + ":" + key + ")%" }
	return &corev3.SubstitutionFormatString{
		OmitEmptyValues: true,
		Format: jsonFormat(map[string]string{
			"time":          "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
			"request_id":    "%REQ(X-REQUEST-ID)%",
			"method":        "%REQ(:METHOD)%",
			"host":          "%FILTER_STATE(" + stateHost + ":PLAIN)%",
			"path":          "%FILTER_STATE(" + statePath + ":PLAIN)%",
			"upstream_path": "%PATH(NQ)%",
			"protocol":      "%PROTOCOL%",
			"status":        "%RESPONSE_CODE%",
			"details":       "%RESPONSE_CODE_DETAILS%",
			"flags":         "%RESPONSE_FLAGS%",
			"route":         "%ROUTE_NAME%",
			"cluster":       "%UPSTREAM_CLUSTER%",
			"upstream":      "%UPSTREAM_HOST%",
			"client":        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
			"peer":          "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
			"bytes_in":      "%BYTES_RECEIVED%",
			"bytes_out":     "%BYTES_SENT%",
			"duration_ms":   "%DURATION%",
			"authz_us":      "%FILTER_STATE(" + envoy.FilterAuthz + ":FIELD:latency_us)%",
			"api":           "%METADATA(ROUTE:" + envoy.RouteMetadata + ":" + envoy.RouteAPI + ")%",
			"application":   authz(envoy.MetaApplication),
			"subscription":  authz(envoy.MetaSubscription),
			"consumer_org":  authz(envoy.MetaOrganization),
			"tier":          authz(envoy.MetaTier),
			"key_type":      authz(envoy.MetaKeyType),
			"deny_reason":   authz(envoy.MetaReason),
		}),
	}
}
