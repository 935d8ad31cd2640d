package keymanager

import (
	"slices"
	"strings"
	"time"
)

// backend checks how gateways are to deal with the back ends of an API.
func (p *problems) backend(a *API) {
	b := &a.Backend
	p.retry(a)
	p.healthCheck(a)
	if o := b.Outliers; o != nil {
		const at = "/backend/outliers"
		p.number(at+"/consecutive5xx", o.Consecutive5xx, 1000)
		p.optionalSpan(at+"/interval", o.Interval, time.Second, 5*time.Minute)
		p.optionalSpan(at+"/ejectionTime", o.EjectionTime, time.Second, 5*time.Minute)
		p.number(at+"/maxEjectionPercent", o.MaxEjectionPercent, 100)
	}
	if l := b.Limits; l != nil {
		const at, most = "/backend/limits", 65535
		p.number(at+"/connections", l.Connections, most)
		p.number(at+"/pending", l.Pending, most)
		p.number(at+"/requests", l.Requests, most)
		p.number(at+"/retries", l.Retries, most)
	}
	p.backendTLS(a)
}

// number checks a number that may be left out, which is 0.
func (p *problems) number(path string, n, most int) {
	if n < 0 || n > most {
		p.add(path, "must be from 1 to %d; left out or 0, the default holds", most)
	}
}

func (p *problems) retry(a *API) {
	r := a.Backend.Retry
	if r == nil {
		return
	}
	const at, mostAttempts = "/backend/retry", 5
	if r.Attempts < 0 || r.Attempts > mostAttempts {
		p.add(at+"/attempts", "must be from 0 (never again) to %d, beside the first attempt", mostAttempts)
	}
	if r.Attempts == 0 && (len(r.On) > 0 || r.AnyMethod || r.PerTryTimeout != 0 || r.BackOff != 0) {
		p.add(at+"/attempts", "must be given from 1 to %d where there is more to a retry; 0 alone turns retries off", mostAttempts)
	}
	allowed := SafeRetries()
	switch a.Protocol {
	case WebSocket: // a handshake that was answered is over
	case GRPC:
		allowed = append(allowed, Retry502, Retry503, Retry504, RetryUnavailable)
	default:
		allowed = append(allowed, Retry502, Retry503, Retry504)
	}
	if p.size(at+"/on", len(r.On), len(allowed)) {
		for i, c := range r.On {
			oneOf(p, child(at+"/on", i), c, allowed...)
		}
		unique(p, at+"/on", r.On)
	}
	switch {
	case r.PerTryTimeout == 0:
	case a.Stream():
		p.add(at+"/perTryTimeout", "must be left out for a stream, which has no time-out that could hold several tries")
	default:
		p.span(at+"/perTryTimeout", r.PerTryTimeout, 10*time.Millisecond, max(a.Timeout, 10*time.Millisecond), ", the timeout of the API")
	}
	p.optionalSpan(at+"/backOff", r.BackOff, time.Millisecond, 10*time.Second)
}

func (p *problems) healthCheck(a *API) {
	h := a.Backend.HealthCheck
	if h == nil {
		return
	}
	const at = "/backend/healthCheck"
	switch {
	case h.Path == "":
	case a.Protocol == GRPC:
		p.add(at+"/path", "must be left out: a gRPC back end is asked by grpc.health.v1")
	case !isCheckPath(h.Path):
		p.add(at+"/path", "must be the path of a GET, of at most %d characters, such as /healthz: it starts with \"/\" and has no query", maxPath)
	}
	p.optionalSpan(at+"/interval", h.Interval, time.Second, 5*time.Minute)
	p.optionalSpan(at+"/timeout", h.Timeout, 100*time.Millisecond, time.Minute)
	if interval := h.Fill().Interval; h.Timeout > interval {
		p.add(at+"/timeout", "must not be longer than the interval, %v", interval)
	}
	p.number(at+"/unhealthy", h.Unhealthy, 10)
	p.number(at+"/healthy", h.Healthy, 10)
}

// isCheckPath reports whether s is a plain path, or "/" alone.
func isCheckPath(s string) bool {
	return len(s) <= maxPath && (s == "/" || pathProblem(strings.TrimSuffix(s, "/")) == "")
}

// backendTLS checks the names; only the gateways know whether they mean
// anything.
func (p *problems) backendTLS(a *API) {
	ends := a.Production
	if a.Backend.SandboxTLS == nil {
		ends = slices.Concat(a.Production, a.Sandbox)
	}
	p.oneTLS("/backend/tls", a.Backend.TLS, ends)
	p.oneTLS("/backend/sandboxTls", a.Backend.SandboxTLS, a.Sandbox)
}

func (p *problems) oneTLS(at string, t *BackendTLS, ends []string) {
	if t == nil {
		return
	}
	https := func(raw string) bool { return strings.HasPrefix(strings.ToLower(raw), "https:") }
	if len(ends) > 0 && !slices.ContainsFunc(ends, https) {
		p.add(at, "is for endpoints with https, and there is none")
	}
	for _, n := range []struct{ field, v string }{{"/ca", t.CA}, {"/clientCertificate", t.ClientCertificate}} {
		if n.v != "" && !isLabel(n.v, lower, "-") {
			p.add(at+n.field, "must be the name of a certificate in the configuration of the gateways: 1 to %d lower-case letters, digits and single \"-\" between them", maxLabel)
		}
	}
	if t.ServerName != "" && !isHostName(t.ServerName) {
		p.add(at+"/serverName", "must be a lower-case DNS name, without port or wildcard")
	}
}
