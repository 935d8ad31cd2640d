package main

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy"
)

// checkRequests returns one CheckRequest for each token, as Envoy sends it with
// our filter settings: raw headers from the allow-list, the route's context
// extensions, no peer certificate.
func checkRequests(tokens []string, api string, rev uint64) ([][]byte, error) {
	out := make([][]byte, 0, len(tokens))
	for i, tok := range tokens {
		var headers []*corev3.HeaderValue
		for _, h := range [][2]string{
			{":authority", "localhost"}, {":method", "GET"}, {":path", itemPath(i)}, {":scheme", "http"},
			{envoy.HeaderAuthorization, "Bearer " + tok}, {envoy.HeaderAccept, "application/json"},
			{envoy.HeaderClientAddress, "10.1.2.3"}, {envoy.HeaderRequestID, "7f5a1e02-9f4c-4b6e-8a6e-0f6d1d1e2c3b"},
		} {
			headers = append(headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
		}
		b, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source:      peer("10.1.2.3", 41000),
			Destination: peer("10.9.8.7", 8080),
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Id: "1234567890123456789", Method: "GET", Path: itemPath(i), Host: "localhost", Scheme: "http",
				Protocol: "HTTP/1.1", Size: -1, HeaderMap: &corev3.HeaderMap{Headers: headers}}},
			ContextExtensions: map[string]string{envoy.ContextAPI: api, envoy.ContextRev: fmt.Sprint(rev), envoy.ContextGateway: "default"},
			MetadataContext:   &corev3.Metadata{}, RouteMetadataContext: &corev3.Metadata{},
		}})
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func peer(ip string, port uint32) *authv3.AttributeContext_Peer {
	return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
		SocketAddress: &corev3.SocketAddress{Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}}
}

// itemPath is the path of the i-th request: a resource with a template and a
// scope, so that matching is part of what is measured.
func itemPath(i int) string { return fmt.Sprintf("/weather/v1/city/%d?units=metric", i) }

// httpRequests returns whole HTTP/1.1 requests, one for each token.
func httpRequests(tokens []string) [][]byte {
	out := make([][]byte, 0, len(tokens))
	for i, tok := range tokens {
		var b strings.Builder
		fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\nuser-agent: bench/1\r\nauthorization: Bearer %s\r\n\r\n",
			itemPath(i), tok)
		out = append(out, []byte(b.String()))
	}
	return out
}
