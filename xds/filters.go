package xds

import (
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	grpcwebv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	headertometadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	setfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/envoy"
)

// Filter state that keeps what the client asked for: the access log sees host
// and path after the router has rewritten them.
const (
	stateHost = "tollgate.host"
	statePath = "tollgate.path"
)

// httpFilters is the filter chain. Its order is the security model: a preflight
// needs no token (CORS before authz), the environment comes from authz's answer
// (env behind it), and nothing behind authz changes the route.
func httpFilters(p *packer, g *Group, secure bool) []*hcmv3.HttpFilter {
	chain := []struct {
		name   string
		config proto.Message
	}{
		{envoy.FilterOriginal, originalFilter()},
		{envoy.FilterCORS, &corsv3.Cors{}},
		{envoy.FilterGRPCWeb, &grpcwebv3.GrpcWeb{}},
		{envoy.FilterAuthz, authzFilter(g.AuthzTimeout)},
		{envoy.FilterStrip, stripFilter(secure)},
		{envoy.FilterEnv, envFilter()},
		{envoy.FilterRouter, &routerv3.Router{SuppressEnvoyHeaders: true}},
	}
	var out []*hcmv3.HttpFilter
	for _, f := range chain {
		out = append(out, &hcmv3.HttpFilter{Name: f.name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: p.pack(f.config)}})
	}
	return out
}

func originalFilter() *setfilterstatev3.Config {
	state := func(key, format string) *filterstatev3.FilterStateValue {
		return &filterstatev3.FilterStateValue{
			Key:        &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: key},
			FactoryKey: "envoy.string",
			Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
					Specifier: &corev3.DataSource_InlineString{InlineString: format},
				}},
			}},
		}
	}
	return &setfilterstatev3.Config{OnRequestHeaders: []*filterstatev3.FilterStateValue{
		state(statePath, "%PATH(NQ)%"), // without the query: it may carry an API key
		state(stateHost, "%REQ(:AUTHORITY)%"),
	}}
}

// authzFilter asks authz about every request, and refuses with 503 when it
// cannot: there is no default that allows. A route turns it off by name only,
// from the compiled-in list of keymanager.go.
func authzFilter(timeout time.Duration) *extauthzv3.ExtAuthz {
	if timeout == 0 {
		timeout = DefaultAuthzTimeout
	}
	return &extauthzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          "tollgate",
		Services: &extauthzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout: durationpb.New(timeout),
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName:             envoy.ClusterAuthz,
				Authority:               "authz.gateway.internal",
				MaxReceiveMessageLength: uint32Value(64 << 10),
				SkipEnvoyHeaders:        true,
			}},
			RetryPolicy: &corev3.RetryPolicy{
				NumRetries: uint32Value(2),
				// With reset and unavailable a restart of authz under load costs next to
				// nothing; a Check may then run again.
				RetryOn: "connect-failure,refused-stream,reset-before-request,reset,unavailable",
				// MaxInterval is also the time-out of each try: never below Timeout.
				RetryBackOff: &corev3.BackoffStrategy{BaseInterval: millis(5), MaxInterval: durationpb.New(timeout)},
			},
		}},
		FailureModeAllow:            false,
		StatusOnError:               &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ClearRouteCache:             false,
		ValidateMutations:           true,
		EncodeRawHeaders:            true, // repeated headers stay apart; bytes that are not UTF-8 survive
		EnforceResponseHeaderLimits: true,
		MaxDeniedResponseBodyBytes:  4096,
		ChargeClusterResponseStats:  wrapperspb.Bool(false),
		EmitFilterStateStats:        true,
		EmitClientSpan:              wrapperspb.Bool(false),
		AllowedHeaders:              exactly(authzHeaders()...),
		// An allow-list: any other mutation is a mistake in authz and answers 500.
		DecoderHeaderMutationRules: &mutationv3.HeaderMutationRules{
			DisallowAll:     wrapperspb.Bool(true),
			DisallowIsError: wrapperspb.Bool(true),
			AllowExpression: &matcherv3.RegexMatcher{
				Regex: envoy.HeaderPrefix + ".*|x-jwt-assertion|authorization|apikey|internal-key|dpop|" + envoy.HeaderWebSocketProtocol,
			},
		},
	}
}

// authzHeaders are the request headers that authz sees; all others stay here.
func authzHeaders() []string {
	return []string{
		envoy.HeaderAuthorization, envoy.HeaderAPIKey, "internal-key", "dpop",
		envoy.HeaderRequestID, envoy.HeaderClientAddress,
		envoy.HeaderOrigin, envoy.HeaderReferer, envoy.HeaderAccept,
		"upgrade", envoy.HeaderContentType, envoy.HeaderWebSocketProtocol, "traceparent",
	}
}

func exactly(names ...string) *matcherv3.ListStringMatcher {
	out := &matcherv3.ListStringMatcher{}
	for _, n := range names {
		out.Patterns = append(out.Patterns, exact(n))
	}
	return out
}

func exact(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

// stripFilter keeps from the back end what the early mutations cannot: the
// context header, and forged identity in request trailers (HTTP/2), which no
// earlier step sees.
//
// Over TLS (secure) browsers are told to stay with it for a year (RFC 6797),
// unless the back end has said for how long; about its subdomains only the back
// end can know.
func stripFilter(secure bool) *headermutationv3.HeaderMutation {
	answer := []*mutationv3.HeaderMutation{removeHeader("x-powered-by")}
	if secure {
		answer = append(answer, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "strict-transport-security", Value: "max-age=31536000"},
			AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
		}}})
	}
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
		RequestMutations: []*mutationv3.HeaderMutation{removeHeader(envoy.HeaderContext)},
		RequestTrailersMutations: []*mutationv3.HeaderMutation{
			removePrefix(envoy.HeaderPrefix),
			removePrefix("x-envoy-"),
			removeHeader("x-jwt-assertion"),
			removeHeader(envoy.HeaderAuthorization),
			removeHeader(envoy.HeaderAPIKey),
		},
		ResponseMutations: answer,
	}}
}

// envFilter turns the environment that authz answered into the metadata that
// chooses the endpoint subset. No header means "none": no subset has it, so the
// answer is 503 and never the other back end.
func envFilter() *headertometadatav3.Config {
	return &headertometadatav3.Config{RequestRules: []*headertometadatav3.Config_Rule{{
		Header: envoy.HeaderEnv,
		OnHeaderPresent: &headertometadatav3.Config_KeyValuePair{
			MetadataNamespace: envoy.LBMetadata, Key: envoy.LBEnv, Type: headertometadatav3.Config_STRING,
		},
		OnHeaderMissing: &headertometadatav3.Config_KeyValuePair{
			MetadataNamespace: envoy.LBMetadata, Key: envoy.LBEnv, Value: envoy.EnvNone, Type: headertometadatav3.Config_STRING,
		},
		Remove: true,
	}}}
}
