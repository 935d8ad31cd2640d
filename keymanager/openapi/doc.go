// Package openapi imports descriptions of APIs: OpenAPI 3.0, 3.1 and 3.2 and
// Swagger 2.0, in JSON or YAML, into a keymanager.API.
//
// Only what a gateway needs is looked at: the title and the version, servers,
// paths with their operations and security, and these extensions (op: also of
// an operation or a path, where the nearest wins):
//
//	x-wso2-basePath              the context; a version at its end is taken off
//	x-wso2-production-endpoints  {urls: [...]}; else the first of servers
//	x-wso2-sandbox-endpoints     {urls: [...]}
//	x-wso2-throttling-tier       op; also x-throttling-tier
//	x-auth-type                  op; None, Application, Application User, Any
//	x-wso2-disable-security      op; true is x-auth-type None
//	x-scopes, x-scope            op; beside the scopes of security requirements
//	x-wso2-cors                  {accessControlAllowOrigins: [...], ...}
//	x-wso2-application-security  {security-types: [oauth2, api_key]}
//
// Nothing opens a resource but x-auth-type None and x-wso2-disable-security;
// what would send a call to another back end than the API's, and cannot be
// taken over, is refused; other x-wso2-* extensions are listed as warnings.
//
// Documents come from outside. Their size, depth and number of nodes are
// bounded, names that stand twice are refused, no other document is ever read,
// and what they may do to the libraries below is contained.
package openapi
