package authz

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"tollgate/keymanager"
)

func headerMap(t testing.TB, list []*corev3.HeaderValueOption) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, o := range list {
		h := o.GetHeader()
		if _, twice := out[h.GetKey()]; twice {
			t.Errorf("header %s twice", h.GetKey())
		}
		if h.GetValue() == "" || len(h.GetRawValue()) > 0 || o.ProtoReflect().Has(o.ProtoReflect().Descriptor().Fields().ByName("append")) || o.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("header %s is set as %v", h.GetKey(), o)
		}
		out[h.GetKey()] = h.GetValue()
	}
	return out
}

func metadataOf(t testing.TB, m *authv3.CheckResponse) map[string]string {
	t.Helper()
	out := map[string]string{}
	for k, v := range m.GetDynamicMetadata().GetFields() {
		if v.GetStringValue() == "" {
			t.Errorf("metadata %s is %v, want a string that is not empty", k, v)
		}
		out[k] = v.GetStringValue()
	}
	return out
}

func TestAllowed(t *testing.T) {
	for _, tt := range []struct {
		name     string
		grant    func(*keymanager.Verdict)
		api      func(*keymanager.API)
		path     string
		with     []string
		headers  map[string]string
		metadata map[string]string
		removed  []string
	}{
		{
			name: "token", path: "/items", with: withToken,
			headers: map[string]string{
				"x-tollgate-application": "Web shop", "x-tollgate-application-id": "app-1", "x-tollgate-consumer-key": "consumer-1",
				"x-tollgate-key-type": "PRODUCTION", "x-tollgate-subscriber": "PRIMARY/jane", "x-tollgate-user": "PRIMARY/jane",
				"x-tollgate-api": "Pets", "x-tollgate-api-version": "1.0.0", "x-tollgate-subscription-tier": "Silver",
				"x-tollgate-scopes": "pets:read", "x-tollgate-env": "production",
			},
			metadata: map[string]string{
				"app": "Web shop", "app_id": "app-1", "consumer_key": "consumer-1", "key_type": "PRODUCTION", "sub": "sub-1",
				"subscriber": "PRIMARY/jane", "user": "PRIMARY/jane", "org": "acme", "api": "Pets", "api_version": "1.0.0",
				"tier": "Silver", "scopes": "pets:read",
			},
			removed: []string{"authorization"},
		},
		{
			name: "sandbox key with little known of it", path: "/items", with: append(withKey, "authorization", "Basic x"),
			grant: func(v *keymanager.Verdict) {
				g := v.Grant
				*g = keymanager.Grant{KeyType: keymanager.Sandbox, UserType: g.UserType, Subscription: g.Subscription,
					Application: keymanager.GrantApplication{ID: "app-2"}}
			},
			headers: map[string]string{
				"x-tollgate-application-id": "app-2", "x-tollgate-key-type": "SANDBOX", "x-tollgate-api": "Pets",
				"x-tollgate-api-version": "1.0.0", "x-tollgate-subscription-tier": "Silver", "x-tollgate-env": "sandbox",
			},
			metadata: map[string]string{
				"app_id": "app-2", "key_type": "SANDBOX", "sub": "sub-1", "api": "Pets", "api_version": "1.0.0", "tier": "Silver",
			},
			removed: []string{"authorization", "apikey"},
		},
		{
			name: "values from outside", path: "/items", with: withToken,
			grant: func(v *keymanager.Verdict) {
				g := v.Grant
				*g = keymanager.Grant{KeyType: g.KeyType, UserType: g.UserType, Subscription: g.Subscription,
					Application: keymanager.GrantApplication{ID: "a", Name: "Bücher & 100%\r\nx-evil: 1"}, User: "a\x00\xffb",
					Scopes: []keymanager.Scope{"a", "b", "c"}}
			},
			headers: map[string]string{
				"x-tollgate-application": "B%C3%BCcher & 100%25%0D%0Ax-evil: 1", "x-tollgate-application-id": "a", "x-tollgate-user": "a%00%FFb",
				"x-tollgate-key-type": "PRODUCTION", "x-tollgate-api": "Pets", "x-tollgate-api-version": "1.0.0",
				"x-tollgate-subscription-tier": "Silver", "x-tollgate-scopes": "a b c", "x-tollgate-env": "production",
			},
			metadata: map[string]string{
				"app": "Bücher & 100%\r\nx-evil: 1", "app_id": "a", "user": "a\x00\uFFFDb", "key_type": "PRODUCTION", "sub": "sub-1",
				"api": "Pets", "api_version": "1.0.0", "tier": "Silver", "scopes": "a b c",
			},
			removed: []string{"authorization"},
		},
		{
			name: "long values", path: "/items", with: withToken,
			grant: func(v *keymanager.Verdict) {
				g := v.Grant
				*g = keymanager.Grant{KeyType: g.KeyType, UserType: g.UserType, Subscription: g.Subscription,
					User: strings.Repeat("u", 8<<10), Subscriber: strings.Repeat("s", 8<<10+1)}
			},
			headers: map[string]string{
				"x-tollgate-user": strings.Repeat("u", 8<<10), "x-tollgate-key-type": "PRODUCTION", "x-tollgate-api": "Pets",
				"x-tollgate-api-version": "1.0.0", "x-tollgate-subscription-tier": "Silver", "x-tollgate-env": "production",
			},
			metadata: map[string]string{
				"user": strings.Repeat("u", 8<<10), "subscriber": strings.Repeat("s", 8<<10+1), "key_type": "PRODUCTION", "sub": "sub-1", "api": "Pets", "api_version": "1.0.0", "tier": "Silver",
			},
			removed: []string{"authorization"},
		},
		{
			name: "anonymous", path: "/public",
			headers: map[string]string{
				"x-tollgate-user": "anonymous", "x-tollgate-subscription-tier": "Unauthenticated", "x-tollgate-key-type": "PRODUCTION",
				"x-tollgate-api": "Pets", "x-tollgate-api-version": "1.0.0", "x-tollgate-env": "production",
			},
			metadata: map[string]string{
				"user": "anonymous", "tier": "Unauthenticated", "key_type": "PRODUCTION", "api": "Pets", "api_version": "1.0.0",
			},
		},
		{
			name: "anonymous, sandbox alone, credentials all the same", path: "/public", with: append(withToken, withKey...),
			api: func(a *keymanager.API) { a.Production = nil },
			headers: map[string]string{
				"x-tollgate-user": "anonymous", "x-tollgate-subscription-tier": "Unauthenticated", "x-tollgate-key-type": "SANDBOX",
				"x-tollgate-api": "Pets", "x-tollgate-api-version": "1.0.0", "x-tollgate-env": "sandbox",
			},
			metadata: map[string]string{
				"user": "anonymous", "tier": "Unauthenticated", "key_type": "SANDBOX", "api": "Pets", "api_version": "1.0.0",
			},
			removed: []string{"authorization", "apikey"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := petsAPI()
			if tt.api != nil {
				tt.api(api)
			}
			r := newRig(t, nil, api).run(t)
			r.grant(tt.grant)
			for range 2 { // written, and remembered
				m := r.check(t, call{path: envoyPath + tt.path, headers: tt.with})
				if got := see(t, m); got.status != 200 {
					t.Fatalf("%+v", got)
				}
				ok := m.GetOkResponse()
				if d := cmp.Diff(tt.headers, headerMap(t, ok.GetHeaders())); d != "" {
					t.Errorf("headers (-want +got)\n%s", d)
				}
				if d := cmp.Diff(tt.metadata, metadataOf(t, m)); d != "" {
					t.Errorf("metadata (-want +got)\n%s", d)
				}
				if d := cmp.Diff(tt.removed, ok.GetHeadersToRemove()); d != "" {
					t.Errorf("removed (-want +got)\n%s", d)
				}
				if err := ok.ValidateAll(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestCredentialsInTheQueryAreStripped: a credential of ours does not reach the
// back end, and a back end's own parameter is left alone.
func TestCredentialsInTheQueryAreStripped(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.grant(nil)
	for query, want := range map[string]string{
		"":                                  "",
		"a=1&b=2":                           "",
		"apikey=mine":                       "",
		"access_token=mine":                 "",
		"apikey=" + goodKey:                 "apikey",
		"x=1&apikey=mine&apikey=" + goodKey: "apikey",
		"apikey=" + goodToken:               "apikey",
		"access_token=" + goodToken:         "access_token",
		"access_token=" + goodKey + "&apikey=" + goodKey: "apikey access_token",
		"token=" + goodToken:                             "",
	} {
		for _, path := range []string{"/items", "/public"} {
			m := r.check(t, call{path: envoyPath + path + "?" + query, headers: withToken})
			if got := strings.Join(m.GetOkResponse().GetQueryParametersToRemove(), " "); see(t, m).status != 200 || got != want {
				t.Errorf("%s?%s: removed %q, want %q", path, query, got, want)
			}
		}
	}
}

// TestRememberedRepliesFollowTheirAPI: a reply is not used for what has
// changed.
func TestRememberedRepliesFollowTheirAPI(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.grant(nil)
	name := func() string {
		m := r.check(t, call{path: envoyPath + "/items", headers: withToken})
		return headerMap(t, m.GetOkResponse().GetHeaders())["x-tollgate-api"]
	}
	if got := name(); got != "Pets" {
		t.Fatal(got)
	}
	renamed := petsAPI()
	renamed.Name = "Animals"
	r.settle(t, r.km.SetAPI(renamed))
	if got := name(); got != "Animals" {
		t.Errorf("after the API was renamed: %s", got)
	}
}

func TestRefusalFormats(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Realm = "gate" }).run(t)
	r.grant(nil)
	const id = "7f5a1e02-9f4c-4b6e-8a6e-0f6d1d1e2c3b"
	for _, tt := range []struct {
		name    string
		c       call
		status  int
		rpc     codes.Code
		headers map[string]string // "retry-after" is left out
		body    map[string]string // nil = none
	}{
		{
			name: "JSON", c: call{path: "/items", headers: []string{"x-request-id", id, "accept", "*/*"}}, status: 401, rpc: codes.Unauthenticated,
			headers: map[string]string{"content-type": "application/json", "www-authenticate": `Bearer realm="gate", ApiKey realm="gate"`},
			body: map[string]string{"code": "900902", "message": "Missing Credentials",
				"description": missingCredential.text().description, "request_id": id},
		},
		{
			name: "problem", c: call{path: "/items", headers: []string{"x-request-id", id, "accept", "text/html, application/problem+json;q=0.5"}}, status: 401, rpc: codes.Unauthenticated,
			headers: map[string]string{"content-type": "application/problem+json", "www-authenticate": `Bearer realm="gate", ApiKey realm="gate"`},
			body: map[string]string{"type": "about:blank", "title": "Unauthorized", "status": "401", "detail": missingCredential.text().description,
				"code": "900902", "message": "Missing Credentials", "description": missingCredential.text().description, "request_id": id},
		},
		{
			name: "gRPC", c: call{method: "POST", path: "/items/7", headers: []string{"content-type", "application/grpc"}}, status: 403, rpc: codes.PermissionDenied,
			headers: map[string]string{"grpc-status": "7", "grpc-message": messageNoResource},
		},
		{
			name: "gRPC, unauthenticated", c: call{path: "/items", headers: []string{"content-type", "application/grpc-web+proto", "accept", "application/problem+json"}}, status: 401, rpc: codes.Unauthenticated,
			headers: map[string]string{"grpc-status": "16", "grpc-message": "Missing Credentials", "www-authenticate": `Bearer realm="gate", ApiKey realm="gate"`},
		},
		{
			name: "gRPC, not decided", c: call{api: "-", path: "/items", headers: []string{"content-type", "application/grpc"}}, status: 503, rpc: codes.Unavailable,
			headers: map[string]string{"grpc-status": "14", "grpc-message": messageUndecided},
		},
		{
			name: "invalid token", c: call{path: "/items", headers: []string{"authorization", "Bearer x"}}, status: 401, rpc: codes.Unauthenticated,
			headers: map[string]string{"content-type": "application/json",
				"www-authenticate": `Bearer realm="gate", error="invalid_token", error_description="Invalid Credentials", ApiKey realm="gate"`},
			body: map[string]string{"code": "900901", "message": "Invalid Credentials", "description": descriptionInvalid, "request_id": ""},
		},
		{
			name: "invalid key", c: call{path: "/items", headers: []string{"apikey", "x"}}, status: 401, rpc: codes.Unauthenticated,
			headers: map[string]string{"content-type": "application/json",
				"www-authenticate": `Bearer realm="gate", ApiKey realm="gate", error="invalid_token", error_description="Invalid Credentials"`},
			body: map[string]string{"code": "900901", "message": "Invalid Credentials", "description": descriptionInvalid, "request_id": ""},
		},
		{
			name: "scope", c: call{method: "DELETE", path: "/items/7", headers: withToken}, status: 403, rpc: codes.PermissionDenied,
			headers: map[string]string{"content-type": "application/json", "www-authenticate": `Bearer realm="gate", error="insufficient_scope", ` +
				`error_description="The access token does not allow you to access the requested resource", scope="pets:admin", ApiKey realm="gate"`},
			body: map[string]string{"code": "900910", "message": insufficientScope.text().message, "description": insufficientScope.text().description, "request_id": ""},
		},
		{
			name: "no resource", c: call{path: "/nothing", headers: withToken}, status: 403, rpc: codes.PermissionDenied,
			headers: map[string]string{"content-type": "application/json"},
			body:    map[string]string{"code": "900906", "message": messageNoResource, "description": descriptionResource, "request_id": ""},
		},
		{
			name: "unknown API", c: call{api: "gone", path: "/items"}, status: 404, rpc: codes.Unimplemented,
			headers: map[string]string{"content-type": "application/json"},
			body:    map[string]string{"code": "404", "message": "Not Found", "description": "No such API", "request_id": ""},
		},
		{
			name: "not decided", c: call{api: "-", path: "/items", headers: []string{"x-request-id", `"},{"<script>`}}, status: 503, rpc: codes.Unavailable,
			headers: map[string]string{"content-type": "application/json"},
			body:    map[string]string{"code": "900900", "message": messageUndecided, "description": authorizationUnavailable, "request_id": ""},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.path = envoyPath + tt.c.path
			m := r.check(t, tt.c)
			denied, isError := m.GetDeniedResponse(), false
			if denied == nil {
				denied, isError = m.GetErrorResponse(), true
			}
			if int(denied.GetStatus().GetCode()) != tt.status || codes.Code(m.GetStatus().GetCode()) != tt.rpc {
				t.Errorf("status %v and %v, want %d and %v", denied.GetStatus(), m.GetStatus(), tt.status, tt.rpc)
			}
			headers := headerMap(t, denied.GetHeaders())
			after, waits := headers["retry-after"]
			if waits != isError || waits && (len(after) != 1 || after < "1" || after > "5") {
				t.Errorf("retry-after is %q", after)
			}
			delete(headers, "retry-after")
			if d := cmp.Diff(tt.headers, headers); d != "" {
				t.Errorf("headers (-want +got)\n%s", d)
			}
			if d := cmp.Diff(tt.body, bodyOf(t, denied.GetBody())); d != "" {
				t.Errorf("body (-want +got)\n%s", d)
			}
			if err := denied.ValidateAll(); err != nil {
				t.Error(err)
			}
			if len(denied.GetBody()) > 4096 {
				t.Error("Envoy would cut the body")
			}
		})
	}
}

// TestRefusalsTellWhoIsKnown: the access log has the caller of a denial too.
func TestRefusalsTellWhoIsKnown(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.grant(nil)
	m := r.check(t, call{method: "DELETE", path: envoyPath + "/items/7", headers: withToken})
	want := map[string]string{
		"app": "Web shop", "app_id": "app-1", "consumer_key": "consumer-1", "key_type": "PRODUCTION", "sub": "sub-1",
		"subscriber": "PRIMARY/jane", "user": "PRIMARY/jane", "org": "acme", "api": "Pets", "api_version": "1.0.0",
		"tier": "Silver", "scopes": "pets:read", "reason": "insufficient_scope",
	}
	if d := cmp.Diff(want, metadataOf(t, m)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestTexts: what every reason says can stand in JSON, in a header and in a
// gRPC message as it is.
func TestTexts(t *testing.T) {
	names := map[string]bool{}
	for r := range numReasons {
		tx := r.text()
		if tx.name == "" || tx.status == 0 || tx.code == "" || names[tx.name] {
			t.Errorf("reason %d: %+v", r, *tx)
		}
		names[tx.name] = true
		if (r.outcome() == outcomeOK) != (tx.status == 200) || (r.outcome() == outcomeError) != (tx.code == "900900") {
			t.Errorf("%s: outcome %d with %d/%s", tx.name, r.outcome(), tx.status, tx.code)
		}
		if r.outcome() == outcomeOK {
			continue
		}
		for _, s := range []string{tx.name, tx.code, tx.message, tx.description} {
			if headerValue(s) != s || strings.ContainsAny(s, `"\`) || s == "" {
				t.Errorf("%s: %q needs escaping", tx.name, s)
			}
		}
	}
	if Reason(200).outcome() != outcomeError || Reason(200).text() != Undecided.text() || numReasons.outcome() != outcomeError {
		t.Error("a reason that does not exist is decided")
	}
	if (&Decision{}).Reason.outcome() != outcomeError {
		t.Error("the zero decision is decided")
	}
}

func TestAcceptsProblem(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                         false,
		"*/*":                      false,
		"application/json":         false,
		"application/*":            false,
		"application/problem+json": true,
		"Application/Problem+JSON": true,
		" application/problem+json ; q=0.1 , */*": true,
		"text/html,application/problem+json":      true,
		"application/problem+json;q=0":            false,
		"application/problem+json; Q=0.000":       false,
		"application/problem+json;q=0.001":        true,
		"application/problem+jsonx":               false,
	} {
		if got := acceptsProblem(accept); got != want {
			t.Errorf("%q: %t, want %t", accept, got, want)
		}
	}
}

func TestLastResort(t *testing.T) {
	m := new(authv3.CheckResponse)
	must(t, proto.Unmarshal(lastResort(), m))
	if m.GetErrorResponse().GetStatus().GetCode() != 503 || metadataOf(t, m)["reason"] != "panicked" {
		t.Errorf("%v", m)
	}
}
