package main

import (
	"encoding/json"
	"time"

	"tollgate/envoy"
)

type object = map[string]any

const typeURL = "type.googleapis.com/"

// logFlush is how often Envoy writes its access log to the file.
const logFlush = 200 * time.Millisecond

// envoyVariant is one Envoy of the end-to-end comparison: one worker, one
// route that the router answers itself (unless there is a backend), so that Envoy's CPU per request is the
// proxy's own cost plus that of the filter under test, and nothing else.
type envoyVariant struct {
	authzSocket string // ext_authz, unless empty
	stock       bool   // ext_authz with Envoy's defaults instead of our settings
	jwks        string // jwt_authn with these keys, unless empty
	jwtCache    bool
	api         string
	rev         string
	backend     string // Unix socket of an HTTP/1.1 server behind it
	accessLog   string // file for a line with the microseconds that ext_authz took
}

// config returns a static bootstrap. listenPath is a Unix socket: the load
// generator needs no port.
func (v envoyVariant) config(listenPath string) ([]byte, error) {
	var filters, clusters []any
	perRoute := object{}
	if v.jwks != "" {
		provider := object{"issuer": jwtIssuer, "audiences": []string{jwtAudience}, "forward": true, "local_jwks": object{"inline_string": v.jwks}}
		if v.jwtCache {
			provider["jwt_cache_config"] = object{"jwt_cache_size": 4096}
		}
		filters = append(filters, filter("envoy.filters.http.jwt_authn", "jwt_authn.v3.JwtAuthentication", object{
			"providers": object{"km": provider},
			"rules":     []any{object{"match": object{"prefix": "/"}, "requires": object{"provider_name": "km"}}}}))
	}
	if v.authzSocket != "" {
		filters = append(filters, filter(envoy.FilterAuthz, "ext_authz.v3.ExtAuthz", v.extAuthz()))
		clusters = append(clusters, authzCluster(v.authzSocket))
		if !v.stock {
			perRoute[envoy.FilterAuthz] = typed("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", object{"check_settings": object{
				"context_extensions": object{envoy.ContextAPI: v.api, envoy.ContextRev: v.rev, envoy.ContextGateway: "default"}}})
		}
	}
	filters = append(filters, filter(envoy.FilterRouter, "router.v3.Router", object{"suppress_envoy_headers": true}))
	action, answer := "direct_response", object{"status": 200, "body": object{"inline_string": "ok"}}
	if v.backend != "" {
		action, answer = "route", object{"cluster": "backend"}
		clusters = append(clusters, cluster("backend", v.backend))
	}
	var logs []any
	if v.accessLog != "" {
		logs = append(logs, object{"name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", object{
			"path": v.accessLog, "log_format": object{"text_format_source": object{
				"inline_string": "%FILTER_STATE(" + envoy.FilterAuthz + ":FIELD:latency_us)%\n"}}})})
	}
	hcm := typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
		"stat_prefix": "edge", "http_filters": filters, "access_log": logs,
		"normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": "REJECT_REQUEST", "strip_any_host_port": true,
		"use_remote_address": true, "internal_address_config": object{"cidr_ranges": []any{object{"address_prefix": "255.255.255.255", "prefix_len": 32}}},
		"always_set_request_id_in_response": true,
		"common_http_protocol_options":      object{"headers_with_underscores_action": "REJECT_REQUEST", "max_headers_count": 80},
		"route_config": object{"name": "r", "virtual_hosts": []any{object{"name": "v", "domains": []string{"*"}, "routes": []any{object{
			"match": object{"prefix": "/"}, action: answer,
			"typed_per_filter_config": perRoute}}}}},
	})
	return json.Marshal(object{
		"admin": object{"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 0}}},
		"static_resources": object{"clusters": clusters, "listeners": []any{object{
			"name": "l", "address": object{"pipe": object{"path": listenPath}},
			"filter_chains": []any{object{"filters": []any{object{"name": "hcm", "typed_config": hcm}}}}}}},
	})
}

// extAuthz returns the filter: our settings are those that xds pushes, as far
// as they cost something on each request.
func (v envoyVariant) extAuthz() object {
	c := object{"transport_api_version": "V3",
		"grpc_service": object{"timeout": "0.5s", "envoy_grpc": object{"cluster_name": envoy.ClusterAuthz, "skip_envoy_headers": !v.stock}}}
	if v.stock {
		return c
	}
	var allowed []any
	for _, h := range []string{envoy.HeaderAuthorization, envoy.HeaderAPIKey, envoy.HeaderRequestID, envoy.HeaderClientAddress,
		envoy.HeaderOrigin, envoy.HeaderReferer, envoy.HeaderAccept, envoy.HeaderContentType} {
		allowed = append(allowed, object{"exact": h})
	}
	c["stat_prefix"] = "tollgate"
	c["status_on_error"] = object{"code": "ServiceUnavailable"}
	c["validate_mutations"] = true
	c["encode_raw_headers"] = true
	c["enforce_response_header_limits"] = true
	c["emit_filter_state_stats"] = true
	c["allowed_headers"] = object{"patterns": allowed}
	c["decoder_header_mutation_rules"] = object{"disallow_all": true, "disallow_is_error": true,
		"allow_expression": object{"regex": "x-tollgate-.*|authorization|apikey"}}
	return c
}

// cluster is a server at a Unix socket.
func cluster(name, socket string) object {
	return object{"name": name, "type": "STATIC", "connect_timeout": "1s",
		"circuit_breakers": object{"thresholds": []any{object{"max_connections": 1024, "max_pending_requests": 8192, "max_requests": 16384}}},
		"load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{
			object{"endpoint": object{"address": object{"pipe": object{"path": socket}}}}}}}}}
}

func authzCluster(socket string) object {
	c := cluster(envoy.ClusterAuthz, socket)
	c["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		object{"explicit_http_config": object{"http2_protocol_options": object{"max_concurrent_streams": 256}}})}
	return c
}

func typed(message string, fields object) object {
	fields["@type"] = typeURL + message
	return fields
}

func filter(name, message string, fields object) object {
	return object{"name": name, "typed_config": typed("envoy.extensions.filters.http."+message, fields)}
}
