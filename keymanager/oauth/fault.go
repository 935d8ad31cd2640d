package oauth

import (
	"net/http"
	"sync/atomic"
	"time"
)

// faultInterval is how often a fault that lasts is logged.
const faultInterval = 10 * time.Second

// faultLog keeps one line of many that say the same.
type faultLog struct {
	next   atomic.Int64 // Unix nanoseconds
	silent atomic.Int64 // faults since the last line
}

// unavailable is the answer to anything that could not be found out or done,
// whatever the cause.
func (s *Server) unavailable(r *http.Request, err error) answer {
	if r.Context().Err() != nil { // the client has left, which may be the cause
		s.o.Logger.DebugContext(r.Context(), "request given up", "error", err)
		return s.outOfService()
	}
	if more, due := s.faults.add(s.o.Now()); due {
		s.o.Logger.ErrorContext(r.Context(), "request could not be served", "path", r.URL.Path, "error", err, "not_logged_before", more)
	}
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

// add counts a fault. It is due to be logged if the last line is old enough,
// together with the number of those that were not.
func (l *faultLog) add(now time.Time) (silent int64, due bool) {
	at, next := now.UnixNano(), l.next.Load()
	waiting := at < next && next-at <= int64(faultInterval) // a clock set back does not silence it
	if waiting || !l.next.CompareAndSwap(next, at+int64(faultInterval)) {
		l.silent.Add(1)
		return 0, false
	}
	return l.silent.Swap(0), true
}
