package authz

import (
	"net/http"
	"strconv"
	"strings"

	"tollgate/keymanager"
)

// tell says what a caller is told about a refusal: JSON, RFC 9457 if asked for,
// or for gRPC a status in headers and no body (a body would take the place of
// grpc-message, and on gRPC-web reset the status).
func (s *Server) tell(r *Request, d *Decision) (to headersAndBody) {
	t := d.Reason.text()
	if t.status == http.StatusUnauthorized || d.Reason == insufficientScope {
		if c := s.challenge(d); c != "" {
			to.headers = append(to.headers, header{"www-authenticate", c})
		}
	}
	if d.Reason.outcome() == outcomeError {
		to.headers = append(to.headers, header{"retry-after", strconv.Itoa(s.retryAfter())})
	}
	switch {
	case r.grpc():
		to.headers = append(to.headers,
			header{"grpc-status", strconv.Itoa(int(t.grpcCode()))},
			header{"grpc-message", t.message})
	case acceptsProblem(r.Accept):
		to.headers = append(to.headers, header{"content-type", "application/problem+json"})
		to.body = problemBody(t, r.RequestID)
	default:
		to.headers = append(to.headers, header{"content-type", "application/json"})
		to.body = plainBody(t, r.RequestID)
	}
	return to
}

// retryAfter returns 1 to 5 seconds, each as often as the others, so that those
// who wait do not come back together.
func (s *Server) retryAfter() int { return 1 + int(s.retries.Add(1)%5) }

// The texts of refusals need no escaping in JSON, nor does a request id.

func plainBody(t *text, requestID string) string {
	return `{"code":"` + t.code + `","message":"` + t.message + `","description":"` + t.description +
		`","request_id":"` + safeID(requestID) + `"}`
}

// problemBody is RFC 9457: its own members, and ours beside them.
func problemBody(t *text, requestID string) string {
	return `{"type":"about:blank","title":"` + http.StatusText(t.status) + `","status":` + strconv.Itoa(t.status) +
		`,"detail":"` + t.description + `","code":"` + t.code + `","message":"` + t.message +
		`","description":"` + t.description + `","request_id":"` + safeID(requestID) + `"}`
}

// maxRequestID is the longest request id that is repeated.
const maxRequestID = 128

// safeID returns an id that can stand in JSON and in a log as it is, or "".
func safeID(id string) string {
	if len(id) > maxRequestID {
		return ""
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("-_.:/+=", c) < 0 {
			return ""
		}
	}
	return id
}

// acceptsProblem reports whether an Accept header names application/problem+json
// itself and does not give it the weight 0. A range such as */* is not enough.
func acceptsProblem(accept string) bool {
	for accept != "" {
		var one string
		one, accept, _ = strings.Cut(accept, ",")
		typ, parameters, _ := strings.Cut(one, ";")
		if strings.EqualFold(strings.TrimSpace(typ), "application/problem+json") {
			return !zeroWeight(parameters)
		}
	}
	return false
}

func zeroWeight(parameters string) bool {
	for parameters != "" {
		var one string
		one, parameters, _ = strings.Cut(parameters, ";")
		name, value, _ := strings.Cut(strings.TrimSpace(one), "=")
		if strings.EqualFold(name, "q") {
			return strings.Trim(value, "0.") == ""
		}
	}
	return false
}

// challenge returns the value of WWW-Authenticate (RFC 9110 section 11.6.1):
// the schemes that the API takes, and for the one that was used what is wrong
// (RFC 6750 section 3). Without a credential nothing is wrong with it.
func (s *Server) challenge(d *Decision) string {
	wrong := ""
	switch d.Reason {
	case missingCredential:
	case insufficientScope:
		wrong = `, error="insufficient_scope", error_description="` + d.Reason.text().message + `"` + scopeAttribute(d.Resource)
	default:
		wrong = `, error="invalid_token", error_description="` + d.Reason.text().message + `"`
	}
	var b strings.Builder
	add := func(scheme string, used bool) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(scheme + ` realm="` + s.realm + `"`)
		if used {
			b.WriteString(wrong)
		}
	}
	key := d.place == inHeader || d.place == inQuery
	if d.API.TakesBearer || d.API.TakesSubprotocol {
		add("Bearer", !key)
	}
	if d.API.TakesKeyHeader || d.API.TakesKeyQuery {
		add("ApiKey", key)
	}
	return b.String()
}

// scopeAttribute names the scopes of a resource, any one of which suffices.
func scopeAttribute(r *keymanager.Resource) string {
	if r == nil || len(r.Scopes) == 0 {
		return ""
	}
	scopes := joinScopes(r.Scopes)
	if strings.ContainsAny(scopes, "\"\\\r\n") { // not RFC 6749 section 3.3
		return ""
	}
	return `, scope="` + scopes + `"`
}
