package xds

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"tollgate/envoy"
)

// redirectOnly makes a connection manager answer everything with 308 to https on
// a port: the method and the body are to come again there (RFC 9110 section
// 15.4.9). It has no route to anywhere, so there is nothing to ask authz.
func redirectOnly(p *packer, m *hcmv3.HttpConnectionManager, port uint16) {
	m.HttpFilters = []*hcmv3.HttpFilter{{
		Name:       envoy.FilterRouter,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: p.pack(&routerv3.Router{SuppressEnvoyHeaders: true})},
	}}
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name: "redirect",
		VirtualHosts: []*routev3.VirtualHost{{
			Name: "redirect", Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Name:  "redirect",
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{
					SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
					PortRedirect:           uint32(port),
					ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT,
				}},
			}},
		}},
	}}
}

// proveRedirect wants a connection manager without authz to lead nowhere.
func proveRedirect(m *hcmv3.HttpConnectionManager) error {
	table := m.GetRouteConfig()
	if table == nil || len(m.GetHttpFilters()) != 1 || m.GetHttpFilters()[0].GetName() != envoy.FilterRouter {
		return fmt.Errorf("neither %s nor redirects alone", envoy.FilterAuthz)
	}
	for _, vh := range table.GetVirtualHosts() {
		for _, r := range vh.GetRoutes() {
			if r.GetRedirect() == nil {
				return fmt.Errorf("route %q leads somewhere without authz", r.GetName())
			}
		}
		if vh.GetMatcher() != nil {
			return fmt.Errorf("virtual host %q has a tree without authz", vh.GetName())
		}
	}
	return nil
}
