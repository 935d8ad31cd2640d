package authz

import (
	"net/http"

	"google.golang.org/grpc/codes"
)

// Reason says how a request was decided. The zero value is not decided: 503.
type Reason uint8

// The reasons. Those up to the first refusal are undecided.
const (
	Undecided Reason = iota
	malformedCheck
	noAPI
	wrongGateway
	syncing
	blind
	behind
	brokenAPI
	keyManagerUnavailable
	overloaded
	outdated
	unknownVerdict
	clocksDiffer
	panicked

	unknownAPI
	apiBlocked
	methodRefused
	pathRefused
	noResource
	missingCredential
	malformedCredential
	severalCredentials
	notOurs
	wrongPlace
	unknownCredential
	revokedCredential
	expiredCredential
	applicationInactive
	userInactive
	noEndpoint
	wrongTokenType
	notSubscribed
	subscriptionBlocked
	subscriptionInactive
	networkRefused
	refererRefused
	insufficientScope

	allowed
	allowedAnonymous

	numReasons
)

// outcome is what becomes of a request.
type outcome uint8

const (
	outcomeError outcome = iota
	outcomeDenied
	outcomeOK
)

// text is everything fixed about a reason. The codes and messages are those of
// WSO2 API Manager, which clients and portals know.
type text struct {
	name        string // in metadata, metrics and logs
	status      int    // HTTP
	code        string
	message     string
	description string
}

const (
	messageUndecided    = "Unclassified Authentication Failure"
	messageInvalid      = "Invalid Credentials"
	messageNoResource   = "No matching resource found in the API for the given request"
	messageForbidden    = "Resource forbidden"
	hintCredentials     = "Make sure you have provided the correct security credentials"
	hintResource        = "Check the API documentation and add a proper REST resource path to the invocation URL"
	descriptionInvalid  = messageInvalid + ". " + hintCredentials
	descriptionResource = messageNoResource + ". " + hintResource
)

func undecidedText(name, description string) text {
	return text{name, http.StatusServiceUnavailable, "900900", messageUndecided, description}
}

func invalidText(name string) text {
	return text{name, http.StatusUnauthorized, "900901", messageInvalid, descriptionInvalid}
}

func noResourceText(name string) text {
	return text{name, http.StatusForbidden, "900906", messageNoResource, descriptionResource}
}

const authorizationUnavailable = "Authorization is unavailable"

var texts = [numReasons]text{
	Undecided:             undecidedText("undecided", authorizationUnavailable),
	malformedCheck:        undecidedText("malformed_check", authorizationUnavailable),
	noAPI:                 undecidedText("no_api_id", authorizationUnavailable),
	wrongGateway:          undecidedText("wrong_gateway", authorizationUnavailable),
	syncing:               undecidedText("syncing", authorizationUnavailable),
	blind:                 undecidedText("blind", authorizationUnavailable),
	behind:                undecidedText("behind_route", authorizationUnavailable),
	brokenAPI:             undecidedText("broken_api", authorizationUnavailable),
	keyManagerUnavailable: undecidedText("key_manager_unavailable", authorizationUnavailable),
	overloaded:            undecidedText("overloaded", authorizationUnavailable),
	outdated:              undecidedText("outdated", authorizationUnavailable),
	unknownVerdict:        undecidedText("unknown_verdict", authorizationUnavailable),
	clocksDiffer:          undecidedText("clocks_differ", authorizationUnavailable),
	panicked:              undecidedText("panicked", authorizationUnavailable),

	unknownAPI: {"unknown_api", http.StatusNotFound, "404", "Not Found", "No such API"},
	apiBlocked: {"api_blocked", http.StatusServiceUnavailable, "700700", "API blocked",
		"This API has been blocked temporarily. Please try again later or contact the system administrators"},
	methodRefused: noResourceText("method_refused"),
	pathRefused:   noResourceText("path_refused"),
	noResource:    noResourceText("no_resource"),

	missingCredential: {"missing_credential", http.StatusUnauthorized, "900902", "Missing Credentials",
		"Missing Credentials. Make sure your API invocation call has an Authorization: Bearer header, or an API key where the API takes one"},
	malformedCredential: invalidText("malformed_credential"),
	severalCredentials:  invalidText("several_credentials"),
	notOurs:             invalidText("not_ours"),
	wrongPlace:          invalidText("wrong_place"),
	unknownCredential:   invalidText("unknown_credential"),
	revokedCredential:   invalidText("revoked"),
	expiredCredential: {"expired", http.StatusUnauthorized, "900903", "Access Token Expired",
		"Access Token Expired. Renew the access token and try again"},
	applicationInactive: invalidText("application_inactive"),
	userInactive:        invalidText("user_inactive"),
	noEndpoint: {"no_endpoint", http.StatusUnauthorized, "900901", messageInvalid,
		"Invalid Credentials. The API has no endpoint for keys of this type"},
	wrongTokenType: {"wrong_token_type", http.StatusUnauthorized, "900905", "Incorrect Access Token Type is provided",
		"Incorrect Access Token Type is provided. The resource asks for another type of token"},
	notSubscribed: {"not_subscribed", http.StatusForbidden, "900908", messageForbidden,
		"Resource forbidden. User is NOT authorized to access the Resource. API Subscription validation failed"},
	subscriptionBlocked: {"subscription_blocked", http.StatusUnauthorized, "900907", "The requested API is temporarily blocked",
		"The requested API is temporarily blocked. The subscription to the API has been blocked"},
	subscriptionInactive: {"subscription_inactive", http.StatusUnauthorized, "900909", "The subscription to the API is inactive",
		"The subscription to the API is inactive. It waits for approval or has been rejected"},
	networkRefused: {"network_refused", http.StatusForbidden, "900908", messageForbidden,
		"Resource forbidden. Access is not permitted from this address"},
	refererRefused: {"referer_refused", http.StatusForbidden, "900908", messageForbidden,
		"Resource forbidden. Access is not permitted from this referer"},
	insufficientScope: {"insufficient_scope", http.StatusForbidden, "900910",
		"The access token does not allow you to access the requested resource",
		"The access token does not allow you to access the requested resource. Ask for a token with one of the scopes of the resource"},

	allowed:          {name: "allowed", status: http.StatusOK, code: "200"},
	allowedAnonymous: {name: "anonymous", status: http.StatusOK, code: "200"},
}

// outcome is an error unless it is known to be something else.
func (r Reason) outcome() outcome {
	switch {
	case r == allowed || r == allowedAnonymous:
		return outcomeOK
	case r >= unknownAPI && r < allowed:
		return outcomeDenied
	default:
		return outcomeError
	}
}

func (r Reason) text() *text {
	if r >= numReasons {
		r = Undecided
	}
	return &texts[r]
}

// String returns the name of the reason as metadata, metrics and logs show it.
func (r Reason) String() string { return r.text().name }

// grpcCode is the status for a gRPC caller, and of the CheckResponse itself. It
// is Envoy's own mapping of the HTTP status.
func (t *text) grpcCode() codes.Code {
	switch t.status {
	case http.StatusOK:
		return codes.OK
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.Unimplemented
	default:
		return codes.Unavailable
	}
}
