package openapi

import (
	"context"
	"strings"
	"testing"

	"tollgate/keymanager"
)

// FuzzRead checks that no document makes the reader panic, and that what it
// accepts is valid and open only where the document says so.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "[]", "openapi: 3.0.0", `{"openapi":"3.1.0","info":{"title":"a","version":"1"},"paths":{}}`,
		"openapi: 3.0.0\ninfo: {title: Pets, version: 1.0}\nx-wso2-basePath: /pets/1.0\nservers: [{url: 'https://{h}/v1', variables: {h: {default: a}}}]\n" +
			"security: [{k: [a, b]}]\nx-wso2-cors: {accessControlAllowOrigins: ['*'], accessControlAllowMaxAge: 60}\n" +
			"x-wso2-production-endpoints: {urls: [http://a]}\nx-wso2-application-security: {security-types: [oauth2], optional: false}\n" +
			"paths: {/a/{b}: {x-wso2-throttling-tier: Gold, get: {x-auth-type: None}, put: {x-scopes: [a], security: []}, trace: {}}}\n",
		`{"swagger":"2.0","info":{"title":"a","version":"1"},"host":"a","basePath":"/b","schemes":["https"],"paths":{"/a":{"get":{"x-wso2-disable-security":true}}}}`,
		"a: &a [1, 2]\nb: {<<: {c: *a}}", "openapi: 3.2.0\ninfo: &i {title: x, version: 2024-01-01}\npaths: {/a: {$ref: '#/components/pathItems/A'}}\ncomponents: {pathItems: {A: {get: {}}}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		result, err := read(context.Background(), document, As{})
		if err != nil {
			if keymanager.KindOf(err) != keymanager.KindInvalid {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if problems := keymanager.ValidateAPI(&result.API); len(problems) > 0 {
			t.Fatalf("accepted, but not valid: %v", problems)
		}
		for _, r := range result.API.Resources {
			text := string(document)
			if r.AuthType == keymanager.AuthNone && !strings.Contains(text, "x-auth-type") && !strings.Contains(text, "x-wso2-disable-security") &&
				!strings.Contains(text, `\`) {
				t.Fatalf("%s %s is open, but nothing says so", r.Method, r.Path)
			}
		}
	})
}
