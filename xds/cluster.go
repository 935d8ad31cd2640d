package xds

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"tollgate/envoy"
	"tollgate/keymanager"
)

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// buildAPICluster makes the one cluster of an API. The endpoints of both
// environments are in it; the metadata that authz's answer becomes chooses the
// subset, with no fallback: an environment without endpoints is 503, never the
// other one. A cluster without lb_subset_config would ignore the environment,
// so every one has it, also with a single environment.
func buildAPICluster(p *plan, protocol keymanager.Protocol, ends []endpoint) (*clusterv3.Cluster, error) {
	var pk packer
	c, err := baseCluster(&pk, p.cluster, ends)
	if err != nil {
		return nil, err
	}
	c.AltStatName = envoy.ClusterAPIPrefix + string(p.id)
	c.PerConnectionBufferLimitBytes = uint32Value(32 << 10)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: pk.pack(upstreamHTTP(protocol))}
	c.LbSubsetConfig = &clusterv3.Cluster_LbSubsetConfig{
		FallbackPolicy: clusterv3.Cluster_LbSubsetConfig_NO_FALLBACK,
		SubsetSelectors: []*clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector{
			{Keys: []string{envoy.LBEnv}},
		},
	}
	c.CircuitBreakers = breakers(p.backend.Limits)
	c.OutlierDetection = outliers(p.backend.Outliers)
	setHealthCheck(c, protocol, p.backend.HealthCheck)
	return c, pk.err
}

// baseCluster has what every pushed cluster has: endpoints, how their addresses
// are found, and their TLS.
func baseCluster(pk *packer, name string, ends []endpoint) (*clusterv3.Cluster, error) {
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: seconds(1),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints:   []*endpointv3.LocalityLbEndpoints{{}},
		},
	}
	sockets, err := newSockets(pk, ends)
	if err != nil {
		return nil, err
	}
	c.TransportSocket, c.TransportSocketMatches = sockets.only, sockets.matches
	for _, e := range ends {
		c.LoadAssignment.Endpoints[0].LbEndpoints = append(c.LoadAssignment.Endpoints[0].LbEndpoints, lbEndpoint(e, sockets))
	}
	// An address is STATIC: it never warms, and no other API waits for it.
	if allResolved(ends) {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		return c, nil
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name:        "envoy.cluster.dns",
		TypedConfig: pk.pack(&dnsclusterv3.DnsCluster{DnsLookupFamily: dnsv3.DnsLookupFamily_V4_PREFERRED}),
	}}
	return c, nil
}

func lbEndpoint(e endpoint, s sockets) *endpointv3.LbEndpoint {
	address := socketAddress(e.host, uint32(e.port))
	hostname := e.authority()
	if e.pipe != "" {
		address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.pipe}}}
		hostname = "localhost"
	}
	metadata := map[string]*structpb.Struct{}
	if e.env != "" {
		metadata[envoy.LBMetadata] = stringStruct(envoy.LBEnv, e.env)
	}
	if len(s.matches) > 0 {
		metadata[socketMetadata] = stringStruct(socketKey, e.socket())
	}
	out := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
		Endpoint: &endpointv3.Endpoint{Hostname: hostname, Address: address},
	}}
	if len(metadata) > 0 {
		out.Metadata = &corev3.Metadata{FilterMetadata: metadata}
	}
	return out
}

// upstreamHTTP speaks one protocol to the back ends. There are no keepalive
// pings: servers of other people may take them for an attack (grpc-go closes a
// connection that pings more often than every 5 minutes).
func upstreamHTTP(protocol keymanager.Protocol) *httpv3.HttpProtocolOptions {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch protocol {
	case keymanager.HTTP2, keymanager.GRPC:
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{MaxConcurrentStreams: uint32Value(256)},
		}
	default:
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	return &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: seconds(60), MaxHeadersCount: uint32Value(100)},
		UpstreamProtocolOptions:   &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
}
