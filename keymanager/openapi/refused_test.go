package openapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager/openapi"
)

func TestRefused(t *testing.T) {
	root := []string{""}
	deep := func(begin, end string, n int) string {
		return `{"openapi":"3.0.0","x-a":` + strings.Repeat(begin, n) + "1" + strings.Repeat(end, n) + "}"
	}
	for _, tt := range []struct {
		name, document string
		want           []string
	}{
		{"nothing", "", root},
		{"text", "hello", root},
		{"list", "[1, 2]", root},
		{"not UTF-8", "openapi: \xff", root},
		{"broken JSON", `{"openapi": "3.0.0",}`, root},
		{"JSON and more", `{"openapi":"3.0.0"} {}`, root},
		{"broken YAML", "openapi: [", root},
		{"two YAML documents", "openapi: 3.0.0\n---\nopenapi: 3.0.0", root},
		{"name twice in JSON", `{"openapi":"3.0.0","openapi":"3.1.0"}`, root},
		{"name twice in YAML", "openapi: 3.0.0\nopenapi: 3.1.0", root},
		{"deep JSON", deep("[", "]", 100_000), root},
		{"deep JSON objects", deep(`{"a":`, "}", 100_000), root},
		{"deep YAML", "openapi: 3.0.0\nx-a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), root},
		{"YAML that doubles and doubles", "openapi: 3.0.0\na0: &a0 [x, x]\n" + func() string {
			var b strings.Builder
			for i := range 40 {
				fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
			}
			return b.String()
		}(), root},
		{"YAML within itself", "openapi: 3.0.0\nx-a: &a [*a]", root},
		{"YAML merging a text", "openapi: 3.0.0\n<<: text", root},
		{"no version of OpenAPI", "info: {title: a, version: '1'}\npaths: {}", root},
		{"OpenAPI 4", "openapi: 4.0.0\ninfo: {title: a, version: '1'}\npaths: {}", root},
		{"Swagger 1.2", "swagger: '1.2'\ninfo: {title: a, version: '1'}", root},
		{"both", "openapi: 2.0\nswagger: '2.0'\ninfo: {title: a, version: '1'}", root},
		{"no info", "openapi: 3.0.0\npaths: {}", []string{"/info"}},
		{"paths as a list", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: []", root},
		{"operation as a text", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {/a: {get: yes!}}", root},
		{"another file", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {/a: {$ref: 'file:///etc/passwd'}}", root},
		{"another host", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {/a: {$ref: 'http://169.254.169.254/latest#/a'}}", root},
		{"a reference to nothing", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {/a: {$ref: '#/components/pathItems/A'}}", root},
		{"a reference to itself", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {/a: {$ref: '#/paths/~1a'}}", nil},

		{"no title and no version", "openapi: 3.0.0\ninfo: {}\npaths: {}", []string{"/info/title", "/info/title", "/info/version"}},
		{"title without a letter", "openapi: 3.0.0\ninfo: {title: 日本, version: '1'}\npaths: {}", []string{"/info/title", "/info/title"}},
		{"version with a slash", "openapi: 3.0.0\ninfo: {title: a, version: 1/2}\npaths: {}", []string{"/info/version"}},
		{"reserved base path", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\nx-wso2-basePath: /oauth2/1\npaths: {}", []string{"/x-wso2-basePath"}},
		{"base path as a list", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\nx-wso2-basePath: [a]\npaths: {}", []string{"/x-wso2-basePath"}},

		{"endpoints as text", minimal("x-wso2-production-endpoints: '#/x-wso2-endpoints/a'", ""), []string{"/x-wso2-production-endpoints"}},
		{"endpoints as a list", minimal("x-wso2-sandbox-endpoints: [http://a]", ""), []string{"/x-wso2-sandbox-endpoints"}},
		{"urls that are none", minimal("x-wso2-production-endpoints: {urls: [http://a, 'ftp://b']}", ""), []string{"/x-wso2-production-endpoints/urls/1"}},
		{"urls as numbers", minimal("x-wso2-production-endpoints: {urls: [1]}", ""), []string{"/x-wso2-production-endpoints/urls"}},
		{"another base path", minimal("x-wso2-production-endpoints: {urls: [http://a/x]}\nx-wso2-sandbox-endpoints: {urls: [http://a/y]}", ""), []string{"/x-wso2-sandbox-endpoints/urls/0"}},
		{"server that is none", minimal("servers: [{url: 'https://u:p@a.example'}]", ""), []string{"/servers/0/url"}},
		{"server with an open variable", minimal("servers: [{url: 'https://{h}.example'}]", ""), []string{"/servers/0/url"}},
		{"endpoints of an operation", minimal("", "x-wso2-production-endpoints: {urls: [http://b]}"), []string{"/paths/~1a/get/x-wso2-production-endpoints"}},
		{"servers of an operation", minimal("servers: [{url: 'http://a'}]", "servers: [{url: 'http://b'}]"), []string{"/paths/~1a/get/servers"}},

		{"unknown auth type", minimal("", "x-auth-type: Nobody"), []string{"/paths/~1a/get/x-auth-type"}},
		{"auth type as a number", minimal("", "x-auth-type: 1"), []string{"/paths/~1a/get/x-auth-type"}},
		{"contradiction", minimal("", "x-auth-type: Application, x-wso2-disable-security: true"), []string{"/paths/~1a/get/x-wso2-disable-security"}},
		{"disabled by a text", minimal("", "x-wso2-disable-security: 'true'"), []string{"/paths/~1a/get/x-wso2-disable-security"}},
		{"open with scopes", minimal("", "x-auth-type: None, x-scopes: [a]"), []string{"/paths/~1a/get"}},
		{"scope of the management plane", minimal("", "x-scopes: ['tollgate:admin']"), []string{"/paths/~1a/get"}},
		{"scope as a number", minimal("", "x-scopes: [1]"), []string{"/paths/~1a/get/x-scopes"}},
		{"tier", minimal("x-wso2-throttling-tier: 'a b'", ""), []string{"/paths/~1a/get"}},
		{"half a variable", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {'/a/{b}.json': {get: {}}}", []string{"/paths/~1a~1{b}.json"}},
		{"two paths in one", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {'/a/{b}': {get: {}}, '/a/{c}': {get: {}}}", []string{"/paths/~1a~1{c}"}},
		{"path without a slash", "openapi: 3.0.0\ninfo: {title: a, version: '1'}\npaths: {a: {get: {}}}", []string{"/paths/a"}},

		{"CORS as text", minimal("x-wso2-cors: '*'", ""), []string{"/x-wso2-cors"}},
		{"CORS without origins", minimal("x-wso2-cors: {}", ""), []string{"/x-wso2-cors/accessControlAllowOrigins"}},
		{"CORS for everybody's credentials", minimal("x-wso2-cors: {accessControlAllowOrigins: ['*'], accessControlAllowCredentials: true}", ""), []string{"/x-wso2-cors/accessControlAllowOrigins/0"}},
		{"CORS for ever", minimal("x-wso2-cors: {accessControlAllowOrigins: ['*'], accessControlAllowMaxAge: 1e9}", ""), []string{"/x-wso2-cors/accessControlAllowMaxAge"}},
		{"unknown security", minimal("x-wso2-application-security: {security-types: [oauth2, basic_auth]}", ""), []string{"/x-wso2-application-security/security-types/1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := importAs(t, tt.document, openapi.As{})
			if tt.want == nil {
				if err == nil && len(got.API.Resources) > 0 {
					t.Errorf("imported as %+v", got.API)
				}
				return
			}
			if err == nil {
				t.Fatalf("imported as %+v", got.API)
			}
			if diff := cmp.Diff(tt.want, problems(t, err)); diff != "" {
				t.Errorf("pointers (-want +got):\n%s\n%v", diff, err)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}
