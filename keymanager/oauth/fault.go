package oauth

import "net/http"

// unavailable is the answer to anything that could not be found out or done,
// whatever the cause.
func (s *Server) unavailable(r *http.Request, err error) answer {
	if r.Context().Err() != nil { // the client has left, which may be the cause
		s.o.Logger.DebugContext(r.Context(), "request given up", "error", err)
		return s.outOfService()
	}
	s.o.Logger.ErrorContext(r.Context(), "request could not be served", "path", r.URL.Path, "error", err)
	return s.outOfService()
}

// outOfService is 503. Clients come back after one to five seconds, not all at
// once. The code is not one of the token endpoint's; the status carries the
// meaning.
func (s *Server) outOfService() answer {
	a := refuse(http.StatusServiceUnavailable, "temporarily_unavailable", "the key manager cannot answer now; try again later")
	a.retryAfter = 1 + int(s.o.Now().UnixMicro()%5)
	return a
}
