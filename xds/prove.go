package xds

import (
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/envoy"
)

// Envoy refuses a whole response for one violation of a proto rule, and accepts
// without a word what is only wrong between resources. Both are found here,
// before anything is sent: a resource that fails is not published, and its API
// is reported.

// proveCluster wants a name without dots (statistics take it apart at them),
// and an API's cluster that cannot ignore the environment.
func proveCluster(c *clusterv3.Cluster) error {
	if err := validate(c); err != nil {
		return err
	}
	if strings.Contains(c.GetName(), ".") {
		return fmt.Errorf("cluster name %q has a dot", c.GetName())
	}
	if c.GetLoadAssignment().GetClusterName() != c.GetName() {
		return fmt.Errorf("cluster %q assigns the endpoints of %q", c.GetName(), c.GetLoadAssignment().GetClusterName())
	}
	if !strings.HasPrefix(c.GetName(), envoy.ClusterAPIPrefix) {
		return nil
	}
	subsets := c.GetLbSubsetConfig()
	selectors := subsets.GetSubsetSelectors()
	if subsets.GetFallbackPolicy() != clusterv3.Cluster_LbSubsetConfig_NO_FALLBACK || len(selectors) != 1 ||
		len(selectors[0].GetKeys()) != 1 || selectors[0].GetKeys()[0] != envoy.LBEnv {
		return fmt.Errorf("cluster %q does not choose by environment alone", c.GetName())
	}
	for _, l := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			env := e.GetMetadata().GetFilterMetadata()[envoy.LBMetadata].GetFields()[envoy.LBEnv].GetStringValue()
			if env != envoy.EnvProduction && env != envoy.EnvSandbox {
				return fmt.Errorf("cluster %q has an endpoint of environment %q", c.GetName(), env)
			}
		}
	}
	return nil
}

// proveScope checks a table by itself and against the clusters that are known.
func proveScope(g *Group, s *routev3.ScopedRouteConfiguration, known func(cluster string) bool) error {
	if err := validate(s); err != nil {
		return err
	}
	fragments := s.GetKey().GetFragments()
	if len(fragments) != 1 || s.GetName() != scopeName(g.Name, fragments[0].GetStringKey()) ||
		s.GetRouteConfiguration().GetName() != s.GetName() {
		return fmt.Errorf("scope %q and its table are not named by its key", s.GetName())
	}
	segment := fragments[0].GetStringKey()
	domains := map[string]bool{}
	names := map[string]bool{}
	for _, vh := range s.GetRouteConfiguration().GetVirtualHosts() {
		if names[vh.GetName()] {
			return fmt.Errorf("virtual host %q is there twice", vh.GetName())
		}
		names[vh.GetName()] = true
		for _, d := range vh.GetDomains() {
			if domains[d] {
				return fmt.Errorf("domain %q is there twice", d)
			}
			domains[d] = true
		}
		if err := knownFilters(vh.GetTypedPerFilterConfig()); err != nil {
			return fmt.Errorf("virtual host %q: %w", vh.GetName(), err)
		}
		routes, err := routesOf(vh)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if err := proveRoute(r, segment, known); err != nil {
				return fmt.Errorf("route %q: %w", r.GetName(), err)
			}
		}
	}
	return nil
}

// routesOf returns the routes of a virtual host, in its list or in its tree.
func routesOf(vh *routev3.VirtualHost) ([]*routev3.Route, error) {
	out := vh.GetRoutes()
	for _, match := range vh.GetMatcher().GetMatcherTree().GetPrefixMatchMap().GetMap() {
		routes, err := routesAt(match.GetAction().GetTypedConfig())
		if err != nil {
			return nil, fmt.Errorf("virtual host %q: %w", vh.GetName(), err)
		}
		out = append(out, routes...)
	}
	return out, nil
}

// routesAt returns the routes that a match of the tree leads to.
func routesAt(action *anypb.Any) ([]*routev3.Route, error) {
	m, err := action.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *routev3.Route:
		return []*routev3.Route{m}, nil
	case *routev3.RouteList:
		return m.GetRoutes(), nil
	default:
		return nil, fmt.Errorf("a match leads to %T", m)
	}
}

func proveRoute(r *routev3.Route, segment string, known func(string) bool) error {
	path := r.GetMatch().GetPathSeparatedPrefix() + r.GetMatch().GetPath()
	if path != "/"+segment && !strings.HasPrefix(path, "/"+segment+"/") {
		return fmt.Errorf("path %q cannot be reached in the table of %q", path, segment)
	}
	if !known(r.GetRoute().GetCluster()) {
		return fmt.Errorf("no cluster %q", r.GetRoute().GetCluster())
	}
	if err := knownFilters(r.GetTypedPerFilterConfig()); err != nil {
		return err
	}
	for _, u := range r.GetRoute().GetUpgradeConfigs() {
		if u.GetUpgradeType() != websocketUpgrade {
			return fmt.Errorf("upgrade to %q", u.GetUpgradeType())
		}
	}
	settings := new(extauthzv3.ExtAuthzPerRoute)
	if err := r.GetTypedPerFilterConfig()[envoy.FilterAuthz].UnmarshalTo(settings); err != nil {
		return fmt.Errorf("no authz settings: %w", err)
	}
	if settings.GetDisabled() {
		for _, open := range keyManagerRoutes {
			if r.GetMatch().GetPath() == open.path && len(r.GetMatch().GetHeaders()) == 1 {
				return nil
			}
		}
		return fmt.Errorf("authz is off on %q", path)
	}
	if settings.GetCheckSettings().GetContextExtensions()[envoy.ContextAPI] == "" {
		return fmt.Errorf("authz would not know the API")
	}
	return nil
}

// knownFilters refuses configuration for a filter that is not in the chain:
// Envoy takes it and ignores it.
func knownFilters(config map[string]*anypb.Any) error {
	for name := range config {
		switch name {
		case envoy.FilterAuthz, envoy.FilterCORS:
		default:
			return fmt.Errorf("settings for filter %q", name)
		}
	}
	return nil
}

// proveListener wants the filter chain of this package, each name once and the
// router at its end.
func proveListener(l *listenerv3.Listener) error {
	if err := validate(l); err != nil {
		return err
	}
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			m := new(hcmv3.HttpConnectionManager)
			if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
				return fmt.Errorf("filter %q: %w", f.GetName(), err)
			}
			names := map[string]bool{}
			last := ""
			for _, h := range m.GetHttpFilters() {
				if last = h.GetName(); names[last] {
					return fmt.Errorf("filter %q is there twice", last)
				}
				names[last] = true
			}
			if !names[envoy.FilterAuthz] && m.GetRouteConfig() != nil {
				if err := proveRedirect(m); err != nil {
					return fmt.Errorf("listener %q: %w", l.GetName(), err)
				}
				continue
			}
			if !names[envoy.FilterAuthz] || last != envoy.FilterRouter || m.GetScopedRoutes() == nil {
				return fmt.Errorf("listener %q: no %s before the router", l.GetName(), envoy.FilterAuthz)
			}
		}
	}
	return nil
}
