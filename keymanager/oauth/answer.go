package oauth

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// answer is what goes back to the client.
type answer struct {
	status     int
	body       []byte // JSON; empty = none
	challenge  string // WWW-Authenticate
	allow      string
	retryAfter int  // seconds; 0 = not said
	hangUp     bool // the connection cannot be used any more
}

// refuse returns the answer for an error (RFC 6749 section 5.2). code and
// description are literals: nothing that a client sent is repeated.
func refuse(status int, code, description string) answer {
	a := answer{status: status, body: []byte(`{"error":"` + code + `","error_description":"` + description + `"}`)}
	if status == http.StatusUnauthorized {
		a.challenge = basicChallenge
	}
	return a
}

func invalidRequest(description string) *answer {
	a := refuse(http.StatusBadRequest, "invalid_request", description)
	return &a
}

const (
	basicChallenge  = `Basic realm="tollgate", charset="UTF-8"`
	bearerChallenge = `Bearer realm="tollgate", error="invalid_token"`
)

// The refusals that are the same every time.
var (
	noSuchEndpoint = refuse(http.StatusNotFound, "invalid_request", "there is no such endpoint")
	bodyTooLarge   = refuse(http.StatusRequestEntityTooLarge, "invalid_request", "the body is too large")
	// invalidClient is the same for an unknown client, a wrong or expired
	// secret, a method that the client may not use, and a client whose
	// application or owner is not active.
	invalidClient = refuse(http.StatusUnauthorized, "invalid_client", "client authentication failed")
	invalidBearer = answer{
		status:    http.StatusUnauthorized,
		body:      []byte(`{"error":"invalid_token","error_description":"the access token is not valid"}`),
		challenge: bearerChallenge,
	}
	unauthorizedClient = refuse(http.StatusBadRequest, "unauthorized_client", "the client may not use this grant type")
	foreignToken       = refuse(http.StatusBadRequest, "unauthorized_client", "the token was issued to another client")
	unsupportedToken   = refuse(http.StatusBadRequest, "unsupported_token_type", "API keys are revoked by the management API")
	unsupportedGrant   = refuse(http.StatusBadRequest, "unsupported_grant_type", "the grant type is not supported")
	malformedScope     = refuse(http.StatusBadRequest, "invalid_scope", "scope is not a list of scope tokens with spaces between them")
	noScopeLeft        = refuse(http.StatusBadRequest, "invalid_scope", "the client may have none of the scopes asked for")
)

func notAllowed(methods string) answer {
	a := refuse(http.StatusMethodNotAllowed, "invalid_request", "the method is not allowed here")
	a.allow = methods
	return a
}

func tooManyFailures(seconds int) answer {
	a := refuse(http.StatusTooManyRequests, "temporarily_unavailable", "too many failed attempts; try again later")
	a.retryAfter = seconds
	return a
}

func bodyNotRead() answer {
	a := refuse(http.StatusRequestTimeout, "invalid_request", "the body did not arrive whole or in time")
	a.hangUp = true
	return a
}

// Values of headers, shared by all answers: net/http does not change them.
var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
	noCache  = []string{"no-cache"}
)

func (a *answer) write(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Pragma"] = noCache
	if a.challenge != "" {
		h.Set("WWW-Authenticate", a.challenge)
	}
	if a.allow != "" {
		h.Set("Allow", a.allow)
	}
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	if a.hangUp {
		h.Set("Connection", "close")
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // who does not get the answer asks again
}

// appendJSON appends s as a JSON string.
func appendJSON(b []byte, s string) []byte {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r >= utf8.RuneSelf }) < 0 {
		return append(append(append(b, '"'), s...), '"')
	}
	quoted, err := json.Marshal(s)
	if err != nil { // does not happen: any string can be marshalled
		return append(b, `""`...)
	}
	return append(b, quoted...)
}
