package xds

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/envoy"
)

// statPrefix starts the listener's statistics: http.edge.*.
const statPrefix = "edge"

// buildListener makes the listener l of group g.
func buildListener(g *Group, l Listener) (*listenerv3.Listener, error) {
	var p packer
	hcm := hardenedHCM(&p, g, l.Name(), l.TLS != nil)
	if l.RedirectTo != 0 {
		redirectOnly(&p, hcm, l.RedirectTo)
	}
	manager := p.pack(hcm)
	chain := &listenerv3.FilterChain{
		Name: "default",
		Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
		}},
	}
	if l.TLS != nil {
		chain.TransportSocket = listenerSocket(&p, l.TLS)
		chain.TransportSocketConnectTimeout = seconds(10) // a handshake that never ends
	}
	return &listenerv3.Listener{
		Name:                                 l.Name(),
		StatPrefix:                           statPrefix,
		TrafficDirection:                     corev3.TrafficDirection_INBOUND,
		Address:                              socketAddress(l.Address, uint32(l.Port)),
		PerConnectionBufferLimitBytes:        uint32Value(32 << 10),
		TcpBacklogSize:                       uint32Value(1024),
		MaxConnectionsToAcceptPerSocketEvent: uint32Value(16),
		FilterChains:                         []*listenerv3.FilterChain{chain},
	}, p.err
}

// hardenedHCM is the only place where an HTTP connection manager is made: no
// listener can be without its rules. What each is for is in the comments; a
// second reading of path, host or header by another component is how gateways
// are bypassed.
func hardenedHCM(p *packer, g *Group, listener string, secure bool) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: statPrefix,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,

		// One spelling of path and host for filters, router and back end.
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		StripPortMode:                &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		StripTrailingHostDot:         true,

		// The client's address, and nobody is "internal": an internal client may
		// set x-envoy-retry-on and the like. An empty list would mean loopback and
		// RFC 1918, so this is a list that nobody is in.
		UseRemoteAddress:  wrapperspb.Bool(true),
		XffNumTrustedHops: g.TrustedHops,
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{
			CidrRanges: []*corev3.CidrRange{{AddressPrefix: "255.255.255.255", PrefixLen: uint32Value(32)}},
		},
		ForwardClientCertDetails: hcmv3.HttpConnectionManager_SANITIZE,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{
			Name:        "envoy.http.early_header_mutation.header_mutation",
			TypedConfig: p.pack(&earlyv3.HeaderMutation{Mutations: earlyMutations()}),
		}},

		ServerHeaderTransformation:   hcmv3.HttpConnectionManager_OVERWRITE,
		ServerName:                   "gateway",
		GenerateRequestId:            wrapperspb.Bool(true),
		AlwaysSetRequestIdInResponse: true,

		MaxRequestHeadersKb: uint32Value(32),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                 seconds(300),
			MaxConnectionDuration:       seconds(3600),
			MaxConnectionDurationJitter: &typev3.Percent{Value: 20},
			MaxHeadersCount:             uint32Value(80),
			// Back ends that turn "_" into "-" would see a forged x-tollgate-user.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		Http1SafeMaxConnectionDuration: true,
		// Off: the routes of a WebSocket API turn it on. Every other upgrade is
		// refused everywhere.
		UpgradeConfigs:      []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: websocketUpgrade, Enabled: wrapperspb.Bool(false)}},
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{AllowChunkedLength: false},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        uint32Value(100),
			InitialStreamWindowSize:     uint32Value(64 << 10),
			InitialConnectionWindowSize: uint32Value(1 << 20),
			AllowConnect:                false,
			ConnectionKeepalive:         &corev3.KeepaliveSettings{Interval: seconds(60), Timeout: seconds(10)},
		},
		RequestHeadersTimeout:           seconds(10),
		RequestTimeout:                  seconds(300), // until the whole request is there, or the response begins
		StreamIdleTimeout:               seconds(streamIdle),
		DrainTimeout:                    seconds(10),
		DelayedCloseTimeout:             seconds(1),
		StreamErrorOnInvalidHttpMessage: wrapperspb.Bool(false),

		AccessLog:        accessLogs(p, g),
		LocalReplyConfig: localReplies(),
		HttpFilters:      httpFilters(p, g, secure),
		RouteSpecifier:   &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: scopedRoutes(g.Name + "/" + listener)},
	}
}

const websocketUpgrade = "websocket"

// streamIdle is how long a stream may be silent, in seconds, unless its route
// says otherwise.
const streamIdle = 60

// earlyMutations remove what only Envoy and authz may say, before routing and
// before every filter, then copy the normalised path into HeaderContext, whose
// first segment chooses the table. %PATH(NQ:PATH)%, since %PATH(NQ)% prefers
// x-envoy-original-path.
func earlyMutations() []*mutationv3.HeaderMutation {
	out := []*mutationv3.HeaderMutation{
		removePrefix(envoy.HeaderPrefix),
		// Envoy's own sanitising knows a fixed list only.
		removePrefix("x-envoy-"),
	}
	for _, name := range []string{
		"x-jwt-assertion",
		"x-forwarded-host", "x-forwarded-uri", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server",
		"x-real-ip", "forwarded",
		"x-original-url", "x-original-uri", "x-rewrite-url",
		"x-http-method-override", "x-http-method", "x-method-override",
		"proxy-authorization", "x-ext-authz-check-result",
	} {
		out = append(out, removeHeader(name))
	}
	return append(out, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: envoy.HeaderContext, Value: "%PATH(NQ:PATH)%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}})
}

// scopedRoutes: the key of a scope is the first segment of HeaderContext.
func scopedRoutes(name string) *hcmv3.ScopedRoutes {
	return &hcmv3.ScopedRoutes{
		Name: name,
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name:             envoy.HeaderContext,
					ElementSeparator: "/",
					ExtractType:      &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 1},
				},
			},
		}}},
		RdsConfigSource: adsSource(),
		ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: adsSource()}},
	}
}

// adsSource waits for ever: after a time-out Envoy would open its ports with no
// route in place.
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   seconds(0),
	}
}

// stdout names Envoy's own standard output. Envoy has it open already: it cannot
// open it by this path when it is a socket, as under systemd, or a file of
// another user.
const stdout = "/dev/stdout"

func accessLogs(p *packer, g *Group) []*accesslogv3.AccessLog {
	logs := accessLog(p, g.AccessLog)
	if g.Usage {
		logs = append(logs, usageLog(p))
	}
	return logs
}

func accessLog(p *packer, path string) []*accesslogv3.AccessLog {
	log := &accesslogv3.AccessLog{}
	switch path {
	case "":
		return nil
	case stdout:
		log.Name = "envoy.access_loggers.stdout"
		log.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: p.pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: logFormat()},
		})}
	default:
		log.Name = "envoy.access_loggers.file"
		log.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: p.pack(&filev3.FileAccessLog{
			Path:            path,
			AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: logFormat()},
		})}
	}
	return []*accesslogv3.AccessLog{log}
}

func removeHeader(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix},
		}},
	}}
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
