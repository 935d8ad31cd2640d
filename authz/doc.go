// Package authz decides every request that comes through Envoy: it serves
// ext_authz v3 and answers from what the key manager published and says.
//
// The walk of one Check, each step in the file of its name:
//
//	server.go      the gRPC server; always a response, never a Go error
//	request.go     the CheckRequest, read in place into a small Request
//	walk.go        the straight line through the steps below
//	apis           the route's api_id → API → resource
//	path.go        methods and paths that nobody may use
//	credential.go  exactly one credential, from the places the API allows
//	Tags           is it ours? what is not ends here: no cache, no network
//	Validator      one call: caches, then the key manager
//	revoked        after every cache, on every request
//	decision.go    the facts against the resource: the decision, a value
//	response.go    the decision as a CheckResponse: identity.go for the back end,
//	               refusal.go for who is not let through
//	record.go      metrics and the log line
//
// A refusal is a value. What cannot be decided is 503, never a denial and never
// a pass, and every zero value here is undecided.
//
// # Credentials
//
// An API takes access tokens in Authorization (scheme Bearer, one space), API
// keys in the header apikey, and API keys in the query parameter apikey, as its
// security schemes say. A kind of credential counts in its own place only: an
// access token in apikey and an API key as a bearer token are refused as
// invalid. More than one credential in the places that the API takes, a place
// that is filled twice, and a comma in Authorization are refused too. Places
// that the API does not take are not looked at. Whatever was found, credential
// headers never go on to the back end, nor does a query parameter with a
// credential of ours.
package authz
