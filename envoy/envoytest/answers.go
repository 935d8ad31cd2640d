package envoytest

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"tollgate/envoy"
)

// OK allows the request into the production subset, with further request
// headers (name, value, name, value ...).
func OK(headers ...string) *authv3.CheckResponse { return OKTo(envoy.EnvProduction, headers...) }

// OKTo allows the request into a subset; "" names none.
func OKTo(env string, headers ...string) *authv3.CheckResponse {
	if env != "" {
		headers = append([]string{envoy.HeaderEnv, env}, headers...)
	}
	return &authv3.CheckResponse{
		Status:       &statuspb.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: Headers(headers...)}},
	}
}

// Deny refuses as authz does: with a reason in the metadata.
func Deny(status int, body string, headers ...string) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(status)}, Headers: Headers(headers...), Body: body,
		}},
		DynamicMetadata: Metadata(envoy.MetaReason, fmt.Sprint(status)),
	}
}

// Undecided answers that authz could not decide (error_response).
func Undecided(status int, body string, headers ...string) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.Unavailable)},
		HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(status)}, Headers: Headers(headers...), Body: body,
		}},
		DynamicMetadata: Metadata(envoy.MetaReason, "undecided"),
	}
}

// Headers makes header options (name, value ...) that overwrite.
func Headers(pairs ...string) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, Header(pairs[i], pairs[i+1], corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	return out
}

// Header makes one header option.
func Header(name, value string, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: action}
}

// Metadata makes dynamic metadata of strings (key, value ...).
func Metadata(pairs ...string) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		s.Fields[pairs[i]] = structpb.NewStringValue(pairs[i+1])
	}
	return s
}

// HeaderValues returns the values under which authz saw a header, in order:
// with encode_raw_headers they are in the header map, each apart.
func HeaderValues(req *authv3.CheckRequest, name string) []string {
	var out []string
	for _, h := range req.GetAttributes().GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
		if h.GetKey() == name {
			out = append(out, string(h.GetRawValue())+h.GetValue())
		}
	}
	return out
}

// Path returns the path that authz saw.
func Path(req *authv3.CheckRequest) string {
	return req.GetAttributes().GetRequest().GetHttp().GetPath()
}

// API returns the API of the matched route, as authz saw it.
func API(req *authv3.CheckRequest) string {
	return req.GetAttributes().GetContextExtensions()[envoy.ContextAPI]
}
