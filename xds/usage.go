package xds

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"

	"tollgate/envoy"
)

// usageLog sends a record of each call that has ended to the key managers.
//
// It is the gRPC log for TCP, not that for HTTP, whose entries always have the
// path with its query, the referer and the user agent: the query of a call that
// authz refused may be an API key, and none of them is ever kept. This one
// knows only what is listed here, beside authz's metadata, sizes and times.
func usageLog(p *packer) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.tcp_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: p.pack(&grpclogv3.TcpGrpcAccessLogConfig{
			CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName:             envoy.UsageLog,
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: envoy.ClusterAccessLog, SkipEnvoyHeaders: true,
				}}},
				BufferFlushInterval: seconds(1),
				BufferSizeBytes:     uint32Value(64 << 10),
				CustomTags: []*tracingv3.CustomTag{
					{Tag: envoy.TagAPI, Type: &tracingv3.CustomTag_Metadata_{Metadata: &tracingv3.CustomTag_Metadata{
						Kind: &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Route_{Route: &metadatav3.MetadataKind_Route{}}},
						MetadataKey: &metadatav3.MetadataKey{Key: envoy.RouteMetadata, Path: []*metadatav3.MetadataKey_PathSegment{
							{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: envoy.RouteAPI}},
						}},
					}}},
					{Tag: envoy.TagMethod, Type: &tracingv3.CustomTag_Value{Value: "%REQ(:METHOD)%"}},
					{Tag: envoy.TagStatus, Type: &tracingv3.CustomTag_Value{Value: "%RESPONSE_CODE%"}},
				},
			},
		})},
	}
}
