package xds

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/envoy"
)

// walk calls fn for m and every message below it, also inside Anys.
func walk(t testing.TB, m proto.Message, fn func(proto.Message)) {
	t.Helper()
	if a, ok := m.(*anypb.Any); ok {
		inner, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		walk(t, inner, fn)
		return
	}
	fn(m)
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
					walk(t, e.Message().Interface(), fn)
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				walk(t, v.List().Get(i).Message().Interface(), fn)
			}
		default:
			walk(t, v.Message().Interface(), fn)
		}
		return true
	})
}

// Whatever is built keeps Envoy's proto rules at every depth, and uses no field
// that is going away.
func TestBuiltIsValidAtEveryDepth(t *testing.T) {
	for _, name := range []string{"rest", "streams", "backends"} {
		b := buildAll(t, readInput(t, name))
		for _, list := range [][]proto.Message{b.clusters, b.listeners, b.scopes} {
			for _, m := range list {
				walk(t, m, func(m proto.Message) {
					if v, ok := m.(interface{ ValidateAll() error }); ok {
						if err := v.ValidateAll(); err != nil {
							t.Errorf("%T: %v", m, err)
						}
					}
					m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
						if o, ok := fd.Options().(interface{ GetDeprecated() bool }); ok && o.GetDeprecated() {
							t.Errorf("deprecated: %s", fd.FullName())
						}
						return true
					})
				})
			}
		}
	}
}

// hcmOf returns the connection manager of a listener.
func hcmOf(t testing.TB, l proto.Message) *hcmv3.HttpConnectionManager {
	t.Helper()
	var out *hcmv3.HttpConnectionManager
	walk(t, l, func(m proto.Message) {
		if h, ok := m.(*hcmv3.HttpConnectionManager); ok {
			out = h
		}
	})
	if out == nil {
		t.Fatal("no connection manager")
	}
	return out
}

// Every listener that can be built is hardened.
func TestEveryListenerIsHardened(t *testing.T) {
	for _, name := range []string{"rest", "streams", "backends"} {
		in := readInput(t, name)
		for i, l := range buildAll(t, in).listeners {
			h := hcmOf(t, l)
			internal := h.GetInternalAddressConfig().GetCidrRanges()
			for rule, kept := range map[string]bool{
				"normalize_path":        h.GetNormalizePath().GetValue(),
				"merge_slashes":         h.GetMergeSlashes(),
				"escaped slashes":       h.GetPathWithEscapedSlashesAction() == hcmv3.HttpConnectionManager_REJECT_REQUEST,
				"host port":             h.GetStripAnyHostPort(),
				"host dot":              h.GetStripTrailingHostDot(),
				"use_remote_address":    h.GetUseRemoteAddress().GetValue(),
				"trusted hops":          h.GetXffNumTrustedHops() == in.Group.TrustedHops,
				"nobody is internal":    len(internal) == 1 && internal[0].GetAddressPrefix() == "255.255.255.255" && internal[0].GetPrefixLen().GetValue() == 32,
				"client certificate":    h.GetForwardClientCertDetails() == hcmv3.HttpConnectionManager_SANITIZE,
				"underscores":           h.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction() == corev3.HttpProtocolOptions_REJECT_REQUEST,
				"number of headers":     h.GetCommonHttpProtocolOptions().GetMaxHeadersCount().GetValue() == 80,
				"size of headers":       h.GetMaxRequestHeadersKb().GetValue() == 32,
				"slow headers":          h.GetRequestHeadersTimeout().AsDuration() > 0,
				"slow bodies":           h.GetRequestTimeout().AsDuration() > 0,
				"idle connections":      h.GetCommonHttpProtocolOptions().GetIdleTimeout().AsDuration() > 0,
				"idle streams":          h.GetStreamIdleTimeout().AsDuration() > 0,
				"streams":               h.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue() == 100,
				"CONNECT":               !h.GetHttp2ProtocolOptions().GetAllowConnect(),
				"chunked with a length": !h.GetHttpProtocolOptions().GetAllowChunkedLength(),
				"foreign request ids":   !h.GetPreserveExternalRequestId(),
				"server header":         h.GetServerHeaderTransformation() == hcmv3.HttpConnectionManager_OVERWRITE && h.GetServerName() == "gateway",
				"buffers":               l.(*listenerv3.Listener).GetPerConnectionBufferLimitBytes().GetValue() == 32<<10,
				"upgrades": len(h.GetUpgradeConfigs()) == 1 && h.GetUpgradeConfigs()[0].GetUpgradeType() == "websocket" &&
					h.GetUpgradeConfigs()[0].GetEnabled() != nil && !h.GetUpgradeConfigs()[0].GetEnabled().GetValue(),
				"tables wait for ever":   h.GetScopedRoutes().GetScopedRds().GetScopedRdsConfigSource().GetInitialFetchTimeout().AsDuration() == 0,
				"replies in our own way": len(h.GetLocalReplyConfig().GetMappers()) == 7,
			} {
				if !kept {
					t.Errorf("%s, listener %d: %s", name, i, rule)
				}
			}
			early := new(earlyv3.HeaderMutation)
			if err := h.GetEarlyHeaderMutationExtensions()[0].GetTypedConfig().UnmarshalTo(early); err != nil {
				t.Fatal(err)
			}
			removed := map[string]bool{}
			for _, m := range early.GetMutations() {
				removed[m.GetRemove()+m.GetRemoveOnMatch().GetKeyMatcher().GetPrefix()] = true
			}
			for _, name := range []string{
				"x-tollgate-", "x-envoy-", "x-jwt-assertion", "x-forwarded-host", "x-forwarded-uri", "x-forwarded-port",
				"x-forwarded-prefix", "x-forwarded-server", "x-real-ip", "forwarded", "x-original-url", "x-original-uri",
				"x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override", "proxy-authorization",
			} {
				if !removed[name] {
					t.Errorf("%s of a client is not removed", name)
				}
			}
			last := early.GetMutations()[len(early.GetMutations())-1].GetAppend()
			if last.GetHeader().GetKey() != envoy.HeaderContext || last.GetHeader().GetValue() != "%PATH(NQ:PATH)%" ||
				last.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
				t.Errorf("last comes %v, want the path that chooses the table", last)
			}
			var names []string
			for _, f := range h.GetHttpFilters() {
				names = append(names, f.GetName())
				if f.GetDisabled() || f.GetIsOptional() {
					t.Errorf("filter %s may be missing", f.GetName())
				}
			}
			want := strings.Join([]string{
				envoy.FilterOriginal, envoy.FilterCORS, envoy.FilterGRPCWeb, envoy.FilterAuthz,
				envoy.FilterStrip, envoy.FilterEnv, envoy.FilterRouter,
			}, " ")
			if got := strings.Join(names, " "); got != want {
				t.Errorf("filters %s, want %s", got, want)
			}
		}
	}
}

// Authorisation refuses when it cannot ask, is asked about everything, and is
// told no more than it needs.
func TestAuthzIsAskedAndFailsClosed(t *testing.T) {
	f := authzFilter(0)
	grpc := f.GetGrpcService()
	for rule, kept := range map[string]bool{
		"fails closed":                   !f.GetFailureModeAllow() && f.GetStatusOnError().GetCode() == 503,
		"always on":                      f.GetFilterEnabled() == nil && f.GetFilterEnabledMetadata() == nil && f.GetDenyAtDisable() == nil,
		"keeps the route":                !f.GetClearRouteCache() && len(f.GetClearRouteCacheHeaders()) == 0,
		"checks mutations":               f.GetValidateMutations(),
		"raw headers":                    f.GetEncodeRawHeaders(),
		"no body":                        f.GetWithRequestBody() == nil,
		"no shadow":                      !f.GetShadowMode(),
		"an allow-list of mutations":     f.GetDecoderHeaderMutationRules().GetDisallowAll().GetValue(),
		"an allow-list of headers":       len(f.GetAllowedHeaders().GetPatterns()) > 0,
		"cluster of the bootstrap":       grpc.GetEnvoyGrpc().GetClusterName() == envoy.ClusterAuthz,
		"a try is not cut by its retry ": grpc.GetRetryPolicy().GetRetryBackOff().GetMaxInterval().AsDuration() >= grpc.GetTimeout().AsDuration(),
	} {
		if !kept {
			t.Error(rule)
		}
	}
	for _, p := range f.GetAllowedHeaders().GetPatterns() {
		if p.GetExact() == "" || p.GetExact() == envoy.HeaderContext {
			t.Errorf("authz is told %v", p)
		}
	}
}

// Each of these Envoy would take without a word, or refuse with everything
// beside it.
func TestProve(t *testing.T) {
	g := &Group{Name: "default", Hosts: []string{"localhost"}, CAFile: "/ca.pem"}
	p, ends, err := newPlan(g, api("pets"))
	if err != nil {
		t.Fatal(err)
	}
	var pk packer
	off := pk.pack(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
	anonymous := pk.pack(checkSettings(map[string]string{envoy.ContextRev: "1"}))
	route := func(s *routev3.ScopedRouteConfiguration) *routev3.Route {
		return s.GetRouteConfiguration().GetVirtualHosts()[0].GetRoutes()[0]
	}
	for name, spoil := range map[string]func(*routev3.ScopedRouteConfiguration){
		"unknown cluster": func(s *routev3.ScopedRouteConfiguration) {
			route(s).GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "x"}
		},
		"no cluster": func(s *routev3.ScopedRouteConfiguration) {
			route(s).GetRoute().ClusterSpecifier = &routev3.RouteAction_ClusterHeader{ClusterHeader: "x"}
		},
		"no authz settings": func(s *routev3.ScopedRouteConfiguration) { delete(route(s).TypedPerFilterConfig, envoy.FilterAuthz) },
		"authz by its type": func(s *routev3.ScopedRouteConfiguration) {
			route(s).TypedPerFilterConfig["envoy.filters.http.ext_authz"] = off
		},
		"authz off": func(s *routev3.ScopedRouteConfiguration) { route(s).TypedPerFilterConfig[envoy.FilterAuthz] = off },
		"no API for authz": func(s *routev3.ScopedRouteConfiguration) {
			route(s).TypedPerFilterConfig[envoy.FilterAuthz] = anonymous
		},
		"settings of another one": func(s *routev3.ScopedRouteConfiguration) {
			route(s).TypedPerFilterConfig[envoy.FilterAuthz] = pk.pack(&routerv3.Router{})
		},
		"unknown filter": func(s *routev3.ScopedRouteConfiguration) { route(s).TypedPerFilterConfig["tollgate.typo"] = off },
		"unknown filter of a host": func(s *routev3.ScopedRouteConfiguration) {
			s.GetRouteConfiguration().GetVirtualHosts()[0].TypedPerFilterConfig["tollgate.typo"] = off
		},
		"out of reach": func(s *routev3.ScopedRouteConfiguration) {
			route(s).Match.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: "/petsx/1"}
		},
		"no action": func(s *routev3.ScopedRouteConfiguration) { route(s).Action = nil },
		"no domain": func(s *routev3.ScopedRouteConfiguration) {
			s.GetRouteConfiguration().GetVirtualHosts()[0].Domains = nil
		},
		"domain twice": func(s *routev3.ScopedRouteConfiguration) {
			s.GetRouteConfiguration().GetVirtualHosts()[0].Domains = []string{"a", "a"}
		},
		"host twice": func(s *routev3.ScopedRouteConfiguration) {
			s.RouteConfiguration.VirtualHosts = append(s.RouteConfiguration.VirtualHosts, s.RouteConfiguration.VirtualHosts[0])
		},
		"another key": func(s *routev3.ScopedRouteConfiguration) {
			s.Key.Fragments[0].Type = &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: "orders"}
		},
		"another name":  func(s *routev3.ScopedRouteConfiguration) { s.Name = "default/orders" },
		"another table": func(s *routev3.ScopedRouteConfiguration) { s.RouteConfiguration.Name = "default/orders" },
	} {
		s, err := buildScope(g, "pets", []*plan{p})
		if err != nil {
			t.Fatal(err)
		}
		known := func(c string) bool { return c == p.cluster }
		if err := proveScope(g, s, known); err != nil {
			t.Fatal(err)
		}
		spoil(s)
		if err := proveScope(g, s, known); err == nil {
			t.Errorf("table: %s is accepted", name)
		}
	}
	for name, spoil := range map[string]func(*clusterv3.Cluster){
		"no subsets": func(c *clusterv3.Cluster) { c.LbSubsetConfig = nil },
		"a fallback": func(c *clusterv3.Cluster) {
			c.LbSubsetConfig.FallbackPolicy = clusterv3.Cluster_LbSubsetConfig_ANY_ENDPOINT
		},
		"no selector":      func(c *clusterv3.Cluster) { c.LbSubsetConfig.SubsetSelectors = nil },
		"another selector": func(c *clusterv3.Cluster) { c.LbSubsetConfig.SubsetSelectors[0].Keys = []string{"version"} },
		"no environment":   func(c *clusterv3.Cluster) { c.LoadAssignment.Endpoints[0].LbEndpoints[0].Metadata = nil },
		"a dot":            func(c *clusterv3.Cluster) { c.Name, c.LoadAssignment.ClusterName = "be/a.b/1", "be/a.b/1" },
		"other endpoints":  func(c *clusterv3.Cluster) { c.LoadAssignment.ClusterName = "x" },
		"a proto rule":     func(c *clusterv3.Cluster) { c.ConnectTimeout = seconds(0) },
	} {
		c, err := buildAPICluster(p, "", ends)
		if err != nil {
			t.Fatal(err)
		}
		if err := proveCluster(c); err != nil {
			t.Fatal(err)
		}
		spoil(c)
		if err := proveCluster(c); err == nil {
			t.Errorf("cluster: %s is accepted", name)
		}
	}
	for name, spoil := range map[string]func(*hcmv3.HttpConnectionManager){
		"no authz": func(h *hcmv3.HttpConnectionManager) {
			h.HttpFilters = append(h.HttpFilters[:3:3], h.HttpFilters[4:]...)
		},
		"filter twice": func(h *hcmv3.HttpConnectionManager) { h.HttpFilters[0] = h.HttpFilters[1] },
		"no router":    func(h *hcmv3.HttpConnectionManager) { h.HttpFilters = h.HttpFilters[:6] },
	} {
		l, err := buildListener(g, Listener{Address: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := proveListener(l); err != nil {
			t.Fatal(err)
		}
		h := hcmOf(t, l)
		spoil(h)
		l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pk.pack(h)}
		if err := proveListener(l); err == nil {
			t.Errorf("listener: %s is accepted", name)
		}
	}
	if pk.err != nil {
		t.Fatal(pk.err)
	}
}

// What breaks a rule inside an Any is found when it is packed.
func TestPackChecks(t *testing.T) {
	var p packer
	p.pack(&extauthzv3.ExtAuthzPerRoute{}) // neither disabled nor settings
	if p.err == nil {
		t.Error("an empty ExtAuthzPerRoute is packed")
	}
	p = packer{}
	p.pack(checkSettings(map[string]string{envoy.ContextAPI: "\xff"}))
	if p.err == nil {
		t.Error("a string that is not UTF-8 is packed")
	}
}
