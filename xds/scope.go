package xds

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/envoy"
)

// linearRoutes is how many routes of one host Envoy scans one after the other.
// Above it they become a matcher tree: 193 µs at 10,000 routes against 30.
const linearRoutes = 200

// scopeName is the resource name of a scope. It is made from the key, so that
// two scopes cannot have one key: Envoy would let the second take the key over
// without a word.
func scopeName(group, segment string) string { return group + "/" + segment }

// buildScope makes the table of one first path segment: a virtual host for the
// hosts that serve the same APIs, in it the routes of each API version, the
// longest base path first.
func buildScope(g *Group, segment string, plans []*plan) (*routev3.ScopedRouteConfiguration, error) {
	var p packer
	gateway := p.pack(checkSettings(map[string]string{envoy.ContextGateway: g.Name}))
	var vhosts []*routev3.VirtualHost
	for _, set := range byHosts(plans) {
		vh := &routev3.VirtualHost{
			Name: set.hosts[0], Domains: set.hosts,
			TypedPerFilterConfig: map[string]*anypb.Any{envoy.FilterAuthz: gateway},
		}
		routes := make([][]*routev3.Route, len(set.apis))
		for i, api := range set.apis {
			routes[i] = apiRoutes(&p, api)
			if i > 0 && api.base == set.apis[i-1].base {
				return nil, fmt.Errorf("%s%s belongs to APIs %s and %s", set.hosts[0], api.base, set.apis[i-1].id, api.id)
			}
		}
		if len(routes) <= linearRoutes {
			vh.Routes = slices.Concat(routes...)
		} else {
			vh.Matcher = pathTree(&p, set.apis, routes)
		}
		vhosts = append(vhosts, vh)
	}
	return scope(g, segment, vhosts), p.err
}

// hostSet is the APIs of some hosts, the longest base path first.
type hostSet struct {
	hosts []string
	apis  []*plan
}

// byHosts puts hosts that serve the same APIs together, in a fixed order.
func byHosts(plans []*plan) []hostSet {
	plans = slices.Clone(plans)
	slices.SortFunc(plans, func(a, b *plan) int {
		return cmp.Or(cmp.Compare(len(b.base), len(a.base)), cmp.Compare(a.base, b.base), cmp.Compare(a.id, b.id))
	})
	byHost := map[string][]*plan{}
	for _, api := range plans {
		for _, h := range api.hosts {
			byHost[h] = append(byHost[h], api)
		}
	}
	var out []hostSet
next:
	for _, h := range slices.Sorted(maps.Keys(byHost)) {
		for i := range out {
			if slices.Equal(out[i].apis, byHost[h]) {
				out[i].hosts = append(out[i].hosts, h)
				continue next
			}
		}
		out = append(out, hostSet{[]string{h}, byHost[h]})
	}
	return out
}

// scope wraps virtual hosts into the resource. With validate_clusters (the
// default of an inline table) one unknown cluster would refuse every scope of a
// response; prove.go finds it first.
func scope(g *Group, segment string, vhosts []*routev3.VirtualHost) *routev3.ScopedRouteConfiguration {
	name := scopeName(g.Name, segment)
	return &routev3.ScopedRouteConfiguration{
		Name: name,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: segment},
		}}},
		RouteConfiguration: &routev3.RouteConfiguration{
			Name:             name,
			VirtualHosts:     vhosts,
			ValidateClusters: wrapperspb.Bool(false),
		},
	}
}

// tableMark is appended to a marshalled table to make other bytes of it: fields
// of two encodings that follow one another are merged, so it adds metadata that
// nobody reads.
func tableMark(now time.Time, n uint64) []byte {
	mark, err := deterministic.Marshal(&routev3.ScopedRouteConfiguration{RouteConfiguration: &routev3.RouteConfiguration{
		Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			envoy.RouteMetadata: stringStruct("sent", fmt.Sprintf("%d.%d", now.UnixNano(), n)),
		}},
	}})
	if err != nil {
		return nil // two ASCII strings always marshal
	}
	return mark
}

func checkSettings(context map[string]string) *extauthzv3.ExtAuthzPerRoute {
	return &extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &extauthzv3.CheckSettings{ContextExtensions: context},
	}}
}

// pathTree finds the route by the longest base path that is a string prefix of
// the path (HttpRequestHeaderMatchInput ":path" includes the query, so only
// prefixes are of use). After a hit Envoy does not try a shorter one: each key
// carries its routes and those of the base paths above it, longest first. A
// route's own match then decides by whole segments: below "/a/12" nothing is
// "/a/1"'s, but "/a/12x" is "/a"'s.
func pathTree(p *packer, apis []*plan, routes [][]*routev3.Route) *xdsmatcherv3.Matcher {
	byBase := make(map[string][]*routev3.Route, len(apis))
	for i, api := range apis {
		byBase[api.base] = routes[i]
	}
	onMatch := make(map[string]*xdsmatcherv3.Matcher_OnMatch, len(apis))
	for i, api := range apis {
		list := slices.Clone(routes[i])
		for end := len(api.base) - 1; end > 0; end-- {
			if api.base[end] == '/' {
				list = append(list, byBase[api.base[:end]]...)
			}
		}
		action := &xdscorev3.TypedExtensionConfig{Name: "route", TypedConfig: nil}
		if len(list) == 1 {
			action.TypedConfig = p.pack(list[0])
		} else {
			action.TypedConfig = p.pack(&routev3.RouteList{Routes: list})
		}
		onMatch[api.base] = &xdsmatcherv3.Matcher_OnMatch{
			OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: action},
		}
	}
	return &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{
		MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
			Input: &xdscorev3.TypedExtensionConfig{
				Name:        "path",
				TypedConfig: p.pack(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: ":path"}),
			},
			TreeType: &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{
				PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: onMatch},
			},
		},
	}}
}

// reservedSegment reports whether the segment is the gateway's own.
func reservedSegment(segment string) bool {
	for _, r := range keyManagerRoutes {
		if s, _, _ := strings.Cut(r.path[1:], "/"); s == segment {
			return true
		}
	}
	return false
}
