package openapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tollgate/keymanager"
	"tollgate/keymanager/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func importAs(t testing.TB, document string, as openapi.As) (*openapi.Result, error) {
	t.Helper()
	return openapi.New(openapi.Options{}).Import(t.Context(), []byte(document), as)
}

func lines(fs []keymanager.FieldError) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Path)
	}
	return out
}

// problems returns the pointers of a refusal.
func problems(t testing.TB, err error) []string {
	t.Helper()
	var e *keymanager.Error
	if !errors.As(err, &e) || e.Kind != keymanager.KindInvalid || len(e.Fields) == 0 {
		t.Fatalf("error is %v, want one of input", err)
	}
	return lines(e.Fields)
}

const petstore = `
openapi: 3.0.3
info: {title: "Swagger Petstore – OpenAPI 3.0", version: 1.10}
servers:
  - url: https://unused.example.com/v3
x-wso2-basePath: /petstore/1.10
x-wso2-production-endpoints:
  urls: [https://pets.example.com/v3, "https://pets2.example.com/v3"]
  type: load_balance
x-wso2-sandbox-endpoints:
  urls: [http://sandbox.example.com:8080/v3]
x-wso2-throttling-tier: Silver
x-wso2-cors:
  corsConfigurationEnabled: true
  accessControlAllowOrigins: [https://app.example.com]
  accessControlAllowMethods: [get, POST]
  accessControlAllowHeaders: [authorization]
  accessControlExposeHeaders: [x-total]
  accessControlAllowCredentials: true
  accessControlAllowMaxAge: 600
x-wso2-application-security: {security-types: [oauth2, api_key], optional: false}
x-wso2-response-cache: {enabled: true}
x-internal: ignored
security:
  - petstore_auth: [read:pets]
paths:
  /pet/{petId}:
    parameters: [{$ref: 'other.yaml#/x'}]
    get:
      operationId: getPet
      responses: {200: {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}}}
    delete:
      security:
        - petstore_auth: [write:pets]
      x-auth-type: Application User
      x-wso2-request-interceptor: evil.jar
    trace: {}
  /pet:
    x-wso2-throttling-tier: Bronze
    post:
      x-scopes: [write:pets, admin:pets]
      x-auth-type: Application & Application User
      x-throttling-tier: Gold
    put:
      security: [{petstore_auth: [write:pets]}]
      x-auth-type: Application
  /inventory:
    get: {x-auth-type: None}
    options: {x-wso2-disable-security: true}
  /files/*:
    get: {security: []}
components:
  schemas:
    Pet: {$ref: 'https://elsewhere.example.com/pet.json'}
  securitySchemes:
    petstore_auth: {type: oauth2, flows: {}}
`

func TestImport(t *testing.T) {
	got, err := importAs(t, petstore, openapi.As{})
	if err != nil {
		t.Fatal(err)
	}
	resource := func(method, path string, auth keymanager.AuthType, tier keymanager.TierName, scopes ...keymanager.Scope) keymanager.Resource {
		return keymanager.Resource{Method: method, Path: path, AuthType: auth, Tier: tier, Scopes: scopes}
	}
	want := keymanager.API{
		Name: "Swagger-Petstore-OpenAPI-3.0", Context: "/petstore", Version: "1.10",
		Protocol: keymanager.HTTP1, Timeout: keymanager.DefaultTimeout, State: keymanager.StateCreated,
		Production: []string{"https://pets.example.com/v3", "https://pets2.example.com/v3"},
		Sandbox:    []string{"http://sandbox.example.com:8080/v3"},
		Resources: []keymanager.Resource{
			resource("GET", "/files/*", keymanager.AuthAny, "Silver"),
			resource("GET", "/inventory", keymanager.AuthNone, "Silver"),
			resource("OPTIONS", "/inventory", keymanager.AuthNone, "Silver"),
			resource("POST", "/pet", keymanager.AuthAny, "Gold", "write:pets", "admin:pets"),
			resource("PUT", "/pet", keymanager.AuthApplication, "Bronze", "write:pets"),
			resource("GET", "/pet/{petId}", keymanager.AuthAny, "Silver", "read:pets"),
			resource("DELETE", "/pet/{petId}", keymanager.AuthApplicationUser, "Silver", "write:pets"),
		},
		Security: []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeAPIKey},
		CORS: &keymanager.CORS{AllowOrigins: []string{"https://app.example.com"}, AllowMethods: []string{"GET", "POST"},
			AllowHeaders: []string{"authorization"}, ExposeHeaders: []string{"x-total"}, MaxAge: 10 * time.Minute, AllowCredentials: true},
	}
	if diff := cmp.Diff(want, got.API); diff != "" {
		t.Errorf("API (-want +got):\n%s", diff)
	}
	wantWarnings := []string{"/paths/~1files~1*/get/security", "/paths/~1pet~1{petId}/delete/x-wso2-request-interceptor",
		"/paths/~1pet~1{petId}/trace", "/x-wso2-response-cache"}
	if diff := cmp.Diff(wantWarnings, lines(got.Warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// minimal is a document with something put at its top and into its operation.
func minimal(top, operation string) string {
	return "openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\nx-wso2-basePath: /pets\n" + top +
		"\npaths: {/a: {get: {" + operation + "}}}\n"
}

func TestOneThing(t *testing.T) {
	get := func(change func(*keymanager.Resource)) []keymanager.Resource {
		r := keymanager.Resource{Method: "GET", Path: "/a", AuthType: keymanager.AuthAny}
		change(&r)
		return []keymanager.Resource{r}
	}
	scopes := func(s ...keymanager.Scope) []keymanager.Resource {
		return get(func(r *keymanager.Resource) { r.Scopes = s })
	}
	auth := func(a keymanager.AuthType) []keymanager.Resource {
		return get(func(r *keymanager.Resource) { r.AuthType = a })
	}
	for _, tt := range []struct {
		name, document string
		want           any // compared with the field of its type
	}{
		{"nothing opens by itself", minimal("security: []", ""), auth(keymanager.AuthAny)},
		{"security of the operation opens nothing", minimal("", "security: [{}]"), auth(keymanager.AuthAny)},
		{"None at the top", minimal("x-auth-type: None", ""), auth(keymanager.AuthNone)},
		{"None at the top, but not here", minimal("x-auth-type: None", "x-auth-type: Any"), auth(keymanager.AuthAny)},
		{"None at the top, security here", minimal("x-auth-type: None", "x-wso2-disable-security: false"), auth(keymanager.AuthAny)},
		{"security disabled at the top", minimal("x-wso2-disable-security: true", ""), auth(keymanager.AuthNone)},
		{"None drops inherited scopes", minimal("x-scopes: [a]", "x-auth-type: None"), auth(keymanager.AuthNone)},
		{"spelled as in the management API", minimal("", "x-auth-type: Application_User"), auth(keymanager.AuthApplicationUser)},
		{"one scope as text", minimal("", "x-scope: a"), scopes("a")},
		{"scopes as text", minimal("", "x-scopes: a b a"), scopes("a", "b")},
		{"scopes of security", minimal("", "security: [{k: [a]}, {l: [b]}]"), scopes("a", "b")},
		{"scopes at the top", minimal("x-scopes: [a]", ""), scopes("a")},
		{"security without scopes keeps those of the top", minimal("x-scopes: [a]", "security: [{default: []}]"), scopes("a")},
		{"security takes the place of the top's", minimal("security: [{k: [a]}]", "security: [{k: [b]}]"), scopes("b")},
		{"server", minimal("servers: [{url: 'https://{h}.example.com:{port}/v1', variables: {h: {default: pets}, port: {default: '8443'}}}, {url: 'http://other'}]", ""),
			[]string{"https://pets.example.com:8443/v1"}},
		{"relative server", minimal("servers: [{url: /v1}]", ""), []string(nil)},
		{"CORS turned off", minimal("x-wso2-cors: {corsConfigurationEnabled: false, accessControlAllowOrigins: ['*']}", ""), (*keymanager.CORS)(nil)},
		{"CORS without a switch", minimal("x-wso2-cors: {accessControlAllowOrigins: ['*']}", ""), &keymanager.CORS{AllowOrigins: []string{"*"}}},
		{"referred path", "openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\npaths: {/a: {$ref: '#/components/pathItems/A'}}\ncomponents: {pathItems: {A: {get: {x-scope: s}}}}", scopes("s")},
		{"merged YAML", "openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\nx-o: &o {x-scope: s}\npaths: {/a: {get: {<<: *o}}}", scopes("s")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := importAs(t, tt.document, openapi.As{})
			if err != nil {
				t.Fatal(err)
			}
			var have any
			switch tt.want.(type) {
			case []keymanager.Resource:
				have = got.API.Resources
			case []string:
				have = got.API.Production
			case *keymanager.CORS:
				have = got.API.CORS
			}
			if diff := cmp.Diff(tt.want, have); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNames(t *testing.T) {
	document := func(title, version, base string) string {
		if base != "" {
			base = "x-wso2-basePath: " + base
		}
		return fmt.Sprintf("openapi: 3.0.0\ninfo: {title: %q, version: %s}\n%s\npaths: {}", title, version, base)
	}
	for _, tt := range []struct {
		name, document string
		as             openapi.As
		want           [3]string // name, context, version
	}{
		{"from the title", document("Pet Store (beta)!", "'1.0.0'", ""), openapi.As{}, [3]string{"Pet-Store-beta", "/pet-store-beta", "1.0.0"}},
		{"number as version", document("Pets", "1.10", ""), openapi.As{}, [3]string{"Pets", "/pets", "1.10"}},
		{"date as version", document("Pets", "2024-01-31", ""), openapi.As{}, [3]string{"Pets", "/pets", "2024-01-31"}},
		{"version in the base path", document("Pets", "v2", "/shop/pets/v2/"), openapi.As{}, [3]string{"Pets", "/shop/pets", "v2"}},
		{"version to be filled in", document("Pets", "v2", "'/pets/{version}'"), openapi.As{}, [3]string{"Pets", "/pets", "v2"}},
		{"no version in the base path", document("Pets", "v2", "/pets"), openapi.As{}, [3]string{"Pets", "/pets", "v2"}},
		{"called otherwise", document("日本", "'1 0'", "/api"), openapi.As{Name: "N", Context: "/c", Version: "3"}, [3]string{"N", "/c", "3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := importAs(t, tt.document, tt.as)
			if err != nil {
				t.Fatal(err)
			}
			if have := [3]string{got.API.Name, got.API.Context, got.API.Version}; have != tt.want {
				t.Errorf("got %q, want %q", have, tt.want)
			}
		})
	}
}

func TestFormats(t *testing.T) {
	for name, document := range map[string]string{
		"JSON":            `{"openapi":"3.0.3","info":{"title":"Pets","version":"1"},"x-wso2-basePath":"/pets/1","servers":[{"url":"https://a.example/v1"}],"paths":{"/a":{"get":{"x-scopes":["\ud83d\ude00"],"x-auth-type":"None","security":[]}}}}`,
		"Swagger 2.0":     `{"swagger":"2.0","info":{"title":"Pets","version":"1"},"x-wso2-basePath":"/pets/1","host":"a.example","basePath":"/v1","schemes":["https"],"paths":{"/a":{"get":{"x-auth-type":"None","parameters":[{"in":"body","name":"b","schema":{"$ref":"#/definitions/X"}}]}}}}`,
		"Swagger in YAML": "swagger: 2.0\ninfo: {title: Pets, version: 1}\nx-wso2-basePath: /pets/1\nhost: a.example\nbasePath: /v1\nschemes: [https]\npaths: {/a: {get: {x-auth-type: None}}}",
		"OpenAPI 3.2":     "openapi: 3.2.0\ninfo: {title: Pets, version: 1}\nx-wso2-basePath: /pets/1\nservers: [{url: 'https://a.example/v1'}]\npaths: {/a: {get: {x-auth-type: None}, additionalOperations: {COPY: {}}}}",
		"BOM":             "\ufeffopenapi: 3.1\ninfo: {title: Pets, version: 1}\nx-wso2-basePath: /pets/1\nservers: [{url: 'https://a.example/v1'}]\npaths: {/a: {get: {x-auth-type: None}}}",
	} {
		t.Run(name, func(t *testing.T) {
			document = strings.Replace(document, `"x-scopes":["\ud83d\ude00"],`, "", 1)
			got, err := importAs(t, document, openapi.As{})
			if err != nil {
				t.Fatal(err)
			}
			a := got.API
			if a.Name != "Pets" || a.Context != "/pets" || a.Version != "1" || len(a.Resources) != 1 || a.Resources[0].AuthType != keymanager.AuthNone ||
				len(a.Production) != 1 || a.Production[0] != "https://a.example/v1" {
				t.Errorf("API is %+v", a)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name, document string
		want           []string
	}{
		{"no base path", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\nservers: [{url: 'http://a'}]\npaths: {}", []string{"/x-wso2-basePath"}},
		{"no back end", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\nx-wso2-basePath: /a/1\npaths: {}", []string{"/servers"}},
		{"all of several scopes", minimal("servers: [{url: 'http://a'}]\nsecurity: [{k: [a, b]}]", ""), []string{"/x-wso2-basePath", "/security/0"}},
		{"failover", minimal("x-wso2-production-endpoints: {urls: [http://a], type: failover, securityConfig: {password: hidden}}", ""),
			[]string{"/x-wso2-basePath", "/x-wso2-production-endpoints/securityConfig", "/x-wso2-production-endpoints/type"}},
		{"optional security", minimal("servers: [{url: 'http://a'}]\nx-wso2-application-security: {optional: true}", ""), []string{"/x-wso2-basePath", "/x-wso2-application-security/optional"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := importAs(t, tt.document, openapi.As{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, lines(got.Warnings)); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			for _, w := range got.Warnings {
				if w.Detail == "" || strings.Contains(w.Detail, "hidden") {
					t.Errorf("warning %+v", w)
				}
			}
		})
	}
}

func TestBounds(t *testing.T) {
	small := openapi.New(openapi.Options{MaxBytes: 100})
	if _, err := small.Import(t.Context(), make([]byte, 101), openapi.As{}); err == nil || problems(t, err)[0] != "" {
		t.Errorf("too large: %v", err)
	}
	var b strings.Builder
	b.WriteString("openapi: 3.0.0\ninfo: {title: a, version: '1'}\nx-wso2-basePath: /a/1\npaths:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  /p%d: {x-wso2-unknown: 1, get: {x-auth-type: wrong}}\n", i)
	}
	_, err := importAs(t, b.String(), openapi.As{})
	if n := len(problems(t, err)); n > 101 {
		t.Errorf("%d problems are told", n)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openapi.New(openapi.Options{}).Import(ended, []byte(petstore), openapi.As{}); keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("with a context that has ended: %v", err)
	}
	hasty := openapi.New(openapi.Options{Timeout: 1})
	if got, err := hasty.Import(t.Context(), []byte(petstore), openapi.As{}); err == nil {
		t.Errorf("imported %+v in no time", got)
	}
}
