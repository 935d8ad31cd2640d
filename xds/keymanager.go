package xds

import (
	"fmt"
	"net/http"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/envoy"
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
