package xds

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// keyManagerRoutes are the only routes that authz is not asked about: the
// endpoints that authenticate their caller themselves, and public metadata. By
// exact path and method; nothing that an operator writes adds to this list.
var keyManagerRoutes = []struct {
	name, method, path string
	timeout            int64 // seconds
}{
	{"token", http.MethodPost, "/oauth2/token", 10},
	{"revoke", http.MethodPost, "/oauth2/revoke", 10},
	{"introspect", http.MethodPost, "/oauth2/introspect", 10},
	{"metadata", http.MethodGet, "/.well-known/oauth-authorization-server", 5},
}

// keyManagerAPI is what the access log calls these routes.
const keyManagerAPI = "keymanager"

// buildKeyManagerScopes makes one scope for each first segment of the routes,
// on the group's own hosts.
func buildKeyManagerScopes(g *Group) ([]*routev3.ScopedRouteConfiguration, error) {
	var p packer
	off := p.pack(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
	gateway := p.pack(checkSettings(map[string]string{envoy.ContextGateway: g.Name}))
	var segments []string
	routes := map[string][]*routev3.Route{}
	for _, r := range keyManagerRoutes {
		segment, _, _ := strings.Cut(r.path[1:], "/")
		if routes[segment] == nil {
			segments = append(segments, segment)
		}
		routes[segment] = append(routes[segment], &routev3.Route{
			Name: keyManagerAPI + "/" + r.name,
			Match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Path{Path: r.path},
				Headers: []*routev3.HeaderMatcher{{
					Name:                 ":method",
					HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exact(r.method)},
				}},
			},
			Metadata: routeMetadata(keyManagerAPI),
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: envoy.ClusterKeyManager},
				Timeout:          seconds(r.timeout),
				RetryPolicy:      keyManagerRetries(),
			}},
			TypedPerFilterConfig: map[string]*anypb.Any{envoy.FilterAuthz: off},
		})
	}
	var out []*routev3.ScopedRouteConfiguration
	for _, segment := range segments {
		out = append(out, scope(g, segment, []*routev3.VirtualHost{{
			Name: g.Hosts[0], Domains: g.Hosts, Routes: routes[segment],
			TypedPerFilterConfig: map[string]*anypb.Any{envoy.FilterAuthz: gateway},
		}}))
	}
	return out, p.err
}

// keyManagerRetries lets a request that no key manager has seen go to another
// one. A request that was sent is not sent again: it may have taken effect.
func keyManagerRetries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn: "connect-failure,refused-stream", NumRetries: uint32Value(2),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: millis(5), MaxInterval: millis(50)},
	}
}

// buildKeyManagerCluster makes the cluster behind the token endpoint.
func buildKeyManagerCluster(g *Group) (*clusterv3.Cluster, error) {
	ends, err := g.KeyManager.endpoints(g.CAFile)
	if err != nil {
		return nil, fmt.Errorf("key manager: %w", err)
	}
	var pk packer
	c, err := baseCluster(&pk, envoy.ClusterKeyManager, ends)
	if err != nil {
		return nil, fmt.Errorf("key manager: %w", err)
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: pk.pack(upstreamHTTP(keymanager.HTTP1))}
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 0}}
	if len(ends) > 1 {
		// One that cannot be reached is left alone for a while; an answer of 5xx is
		// about a request, and ejects nobody.
		c.OutlierDetection = &clusterv3.OutlierDetection{
			Consecutive_5Xx:                uint32Value(0),
			EnforcingConsecutive_5Xx:       uint32Value(0),
			ConsecutiveLocalOriginFailure:  uint32Value(2),
			SplitExternalLocalOriginErrors: true,
			BaseEjectionTime:               seconds(5),
			MaxEjectionPercent:             uint32Value(50),
		}
	}
	return c, pk.err
}

// endpoints reads the addresses of the key managers.
func (k KeyManager) endpoints(caFile string) (out []endpoint, err error) {
	for _, raw := range k.Addresses {
		e, err := keyManagerEndpoint(raw)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 && e.tls != out[0].tls {
			return nil, fmt.Errorf("http and https addresses")
		}
		if slices.Contains(out, e) {
			return nil, fmt.Errorf("an address is there twice")
		}
		out = append(out, e)
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("no address")
	case !out[0].tls && (k.CA != "" || k.ServerName != "" || k.ClientCertificate != ""):
		return nil, fmt.Errorf("a certificate to show, an authority or a name to verify, and addresses in clear text")
	case out[0].tls:
		for i := range out {
			out[i].trust = trust{file: caFile, ca: k.CA, client: k.ClientCertificate, name: k.ServerName}
		}
	}
	return out, nil
}

// keyManagerEndpoint reads http[s]://host:port or unix:/path.
func keyManagerEndpoint(raw string) (endpoint, error) {
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || len(path) > 107 {
			return endpoint{}, fmt.Errorf("socket %q: want an absolute path of at most 107 bytes", path)
		}
		return endpoint{pipe: path}, nil
	}
	e, base, err := parseEndpoint(raw)
	if err == nil && base != "" {
		err = fmt.Errorf("a URL with a path")
	}
	return e, err
}
