package xds

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// apiRoutes makes the routes of an API version: one, or two that differ in what
// is retried. None has a gRPC matcher, and together they match every method: a
// preflight and a gRPC-web call must match too, and which methods there are is
// authz's to say.
func apiRoutes(p *packer, api *plan) []*routev3.Route {
	filters := map[string]*anypb.Any{
		envoy.FilterAuthz: p.pack(checkSettings(map[string]string{
			envoy.ContextAPI: string(api.id),
			envoy.ContextRev: strconv.FormatUint(api.rev, 10),
		})),
	}
	if api.cors != nil {
		filters[envoy.FilterCORS] = p.pack(corsPolicy(api.cors))
	}
	route := func(methods []*routev3.HeaderMatcher, retries *routev3.RetryPolicy) *routev3.Route {
		return &routev3.Route{
			Name: "api/" + string(api.id),
			Match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: api.base}, Headers: methods,
			},
			Metadata:             routeMetadata(string(api.id)),
			Action:               &routev3.Route_Route{Route: routeAction(api, retries)},
			TypedPerFilterConfig: filters,
		}
	}
	if api.twoKinds() {
		return []*routev3.Route{
			route(idempotent(), retryPolicy(p, api.retry, false)),
			route(nil, retryPolicy(p, api.retry, true)),
		}
	}
	return []*routev3.Route{route(nil, retryPolicy(p, api.retry, false))}
}

func routeAction(api *plan, retries *routev3.RetryPolicy) *routev3.RouteAction {
	a := &routev3.RouteAction{
		ClusterSpecifier:     &routev3.RouteAction_Cluster{Cluster: api.cluster},
		Timeout:              durationpb.New(api.timeout),
		HostRewriteSpecifier: &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)},
		RetryPolicy:          retries,
	}
	if api.websocket {
		a.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: websocketUpgrade}}
	}
	switch {
	case api.timeout == 0:
		a.IdleTimeout = durationpb.New(api.idle)
		a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(api.length)}
		if api.grpc {
			a.MaxStreamDuration.GrpcTimeoutHeaderMax = durationpb.New(api.length)
		}
	default:
		if api.grpc {
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{GrpcTimeoutHeaderMax: durationpb.New(api.timeout)}
		}
		// Silence must not end a call that its time-out would allow.
		if api.timeout > (streamIdle-5)*time.Second {
			a.IdleTimeout = durationpb.New(api.timeout + 5*time.Second)
		}
	}
	switch api.target {
	case api.base:
	case "":
		// prefix_rewrite "/" would make "//x" of "/pets/1.0.0/x".
		a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
			Pattern:      &matcherv3.RegexMatcher{Regex: "^" + regexp.QuoteMeta(api.base) + "/*"},
			Substitution: "/",
		}
	default:
		a.PrefixRewrite = api.target
	}
	return a
}

func routeMetadata(api string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{envoy.RouteMetadata: stringStruct(envoy.RouteAPI, api)}}
}

// corsPolicy answers preflights at Envoy, without a credential. A foreign
// origin gets an answer without access-control-allow-origin: its preflight must
// not be forwarded, which is the default.
func corsPolicy(c *keymanager.CORS) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods:                 strings.Join(c.AllowMethods, ", "),
		AllowHeaders:                 strings.Join(c.AllowHeaders, ", "),
		ExposeHeaders:                strings.Join(c.ExposeHeaders, ", "),
		AllowCredentials:             wrapperspb.Bool(c.AllowCredentials),
		ForwardNotMatchingPreflights: wrapperspb.Bool(false),
	}
	if c.MaxAge > 0 {
		out.MaxAge = strconv.FormatInt(int64(c.MaxAge/time.Second), 10)
	}
	for _, o := range c.AllowOrigins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, exact(o))
	}
	return out
}
