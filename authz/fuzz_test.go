package authz

import (
	"context"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"tollgate/keymanager"
)

// fuzzRig takes credentials in every place.
func fuzzRig(f *testing.F) *rig {
	api := petsAPI()
	api.Security = append(api.Security, keymanager.SchemeAPIKeyQuery)
	r := newRig(f, nil, api).run(f)
	r.grant(nil)
	return r
}

// FuzzCheck sends any bytes for a CheckRequest: there is always an answer that
// Envoy understands, and never an OK without a right.
func FuzzCheck(f *testing.F) {
	r := fuzzRig(f)
	for _, c := range []call{
		{path: envoyPath + "/items", headers: withToken},
		{path: envoyPath + "/items/7?apikey=" + goodKey},
		{method: "DELETE", path: envoyPath + "/items/%C3%BC?x=1&apikey=a", headers: withKey},
		{path: envoyPath + "/public", headers: []string{"accept", "application/problem+json", "content-type", "application/grpc", "referer", "x"}},
		{path: "//..;/%2e%25zz", headers: append(withToken, "authorization", "Basic x,y", "x-envoy-external-address", "::1", "x-request-id", "\"\\")},
		{api: "-"},
	} {
		f.Add([]byte(marshal(f, c.message())))
	}
	f.Add([]byte("\x0a\x02\x22\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { holds(t, r, b) })
}

// FuzzFields does the same with well-formed messages.
func FuzzFields(f *testing.F) {
	r := fuzzRig(f)
	f.Add("GET", "/items?apikey="+goodKey, "Bearer "+goodToken, goodKey, "application/grpc", "id")
	f.Add("GET", "/items/7", "bearer  "+goodToken, "", "application/problem+json", "\"")
	f.Add("POST", "/../public;x", "Basic a,Bearer b", "k", "", "")
	f.Fuzz(func(t *testing.T, method, path, authorization, key, accept, id string) {
		c := call{method: method, path: envoyPath + path, headers: []string{"content-type", accept, "accept", accept, "x-request-id", id}}
		if authorization != "" {
			c.headers = append(c.headers, "authorization", authorization)
		}
		if key != "" {
			c.headers = append(c.headers, "apikey", key)
		}
		b, err := proto.Marshal(c.message())
		if err != nil {
			return // not UTF-8 where the encoding asks for it
		}
		holds(t, r, b)
	})
}

// holds checks the answer to an encoded CheckRequest.
func holds(t *testing.T, r *rig, b []byte) {
	answer := new(authv3.CheckResponse)
	if err := proto.Unmarshal(r.server.check(context.Background(), string(b)).wire.Materialize(), answer); err != nil {
		t.Fatalf("Envoy does not understand the answer: %v", err)
	}
	reason := answer.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	switch answer.GetHttpResponse().(type) {
	case *authv3.CheckResponse_OkResponse:
		if reason != "" || answer.GetStatus().GetCode() != 0 {
			t.Fatalf("an OK with a reason or status: %v", answer)
		}
		if why := noRight(b); why != "" {
			t.Fatalf("OK without a right: %s", why)
		}
	case *authv3.CheckResponse_DeniedResponse, *authv3.CheckResponse_ErrorResponse:
		if reason == "" || reason == "panicked" || answer.GetStatus().GetCode() == 0 {
			t.Fatalf("%v", answer)
		}
		if d := answer.GetDeniedResponse(); d.GetBody() != "" {
			bodyOf(t, d.GetBody())
		}
	default:
		t.Fatalf("no answer: %v", answer)
	}
}

// noRight says why a request must not be allowed, in another way than authz
// does: by the generated reader and a list of everything that may pass.
func noRight(b []byte) string {
	var m authv3.CheckRequest
	if proto.Unmarshal(b, &m) != nil {
		return "" // Envoy sends no such thing; parts that nobody reads may be malformed
	}
	http := m.GetAttributes().GetRequest().GetHttp()
	if m.GetAttributes().GetContextExtensions()["api_id"] != "api-pets" {
		return "no such API"
	}
	path, query, _ := strings.Cut(http.GetPath(), "?")
	rest, ok := strings.CutPrefix(path, envoyPath)
	if !ok || http.GetMethod() != "GET" {
		return "nothing but GET below the base path may pass"
	}
	if rest == "/public" {
		return ""
	}
	if id, item := strings.CutPrefix(rest, "/items/"); rest != "/items" && rest != "/app" && (!item || id == "" || strings.ContainsAny(id, "/;\\")) {
		return "no resource " + rest
	}
	headers := map[string][]string{}
	for name, value := range http.GetHeaders() {
		headers[name] = append(headers[name], value)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		headers[h.GetKey()] = append(headers[h.GetKey()], oneOf(h))
	}
	token, keys := headers["authorization"], headers["apikey"]
	for _, p := range strings.Split(query, "&") {
		if key, is := strings.CutPrefix(p, "apikey="); is {
			keys = append(keys, key)
		}
	}
	byToken := len(token) == 1 && strings.EqualFold(token[0][:min(7, len(token[0]))], "bearer ") && token[0][7:] == goodToken
	byKey := len(keys) >= 1 && keys[len(keys)-1] == goodKey || len(keys) >= 1 && keys[0] == goodKey
	if byToken == byKey {
		return "not exactly one credential that is known"
	}
	return ""
}
