package admin

import (
	"time"

	"tollgate/keymanager"
)

// BackendSpec is how gateways deal with the back ends of an API.
type BackendSpec struct {
	Retry       *RetrySpec         `json:"retry,omitempty" doc:"when a call is sent again; left out: once, if it has not reached a back end"`
	HealthCheck *HealthCheckSpec   `json:"healthCheck,omitempty" doc:"asks every endpoint again and again; left out: nobody asks. {} asks with all defaults"`
	Outliers    *OutlierSpec       `json:"outliers,omitempty" doc:"leaves out for a while who answers 5xx; left out: only who cannot be connected to five times in a row"`
	Limits      *BackendLimitsSpec `json:"limits,omitempty" doc:"circuit breakers of each gateway: above them 503 at once"`
	TLS         *BackendTLSSpec    `json:"tls,omitempty" doc:"of endpoints with https; left out: verified by the authorities of the gateway group, no client certificate"`
	SandboxTLS  *BackendTLSSpec    `json:"sandboxTls,omitempty" doc:"of the sandbox endpoints with https; left out: as tls says"`
}

// RetrySpec is when and how often a call is sent to a back end again.
type RetrySpec struct {
	Attempts      int      `json:"attempts" doc:"beside the first one: 0 (never) to 5" example:"2"`
	On            []string `json:"on,omitempty" doc:"connect-failure, refused-stream, reset-before-request (the call has not reached a back end), 502, 503 (also a connection that breaks), 504 (also perTryTimeout), of a gRPC API unavailable; none: the first three"`
	AnyMethod     bool     `json:"anyMethod,omitempty" doc:"also POST and PATCH after 502, 503 and 504, which a back end may then run twice"`
	PerTryTimeout string   `json:"perTryTimeout,omitempty" doc:"of each attempt, 10ms to timeout, which holds for all together; left out: none" example:"5s"`
	BackOff       string   `json:"backOff,omitempty" doc:"mean wait before the first retry, up to twice as long before each further one; default: 25ms"`
}

// HealthCheckSpec is a question that each gateway asks every endpoint.
type HealthCheckSpec struct {
	Path      string `json:"path,omitempty" doc:"asked by GET, well is 200 to 399; none: a TCP connection, of a gRPC API grpc.health.v1" example:"/healthz"`
	Interval  string `json:"interval,omitempty" doc:"1s to 5m; default: 10s"`
	Timeout   string `json:"timeout,omitempty" doc:"100ms to interval, at most 1m; default: 2s"`
	Unhealthy int    `json:"unhealthy,omitempty" doc:"failures in a row that turn an endpoint off, 1 to 10; default: 3"`
	Healthy   int    `json:"healthy,omitempty" doc:"successes in a row that turn it on again, 1 to 10; default: 2"`
}

// OutlierSpec says who is left out for a while.
type OutlierSpec struct {
	Consecutive5xx     int    `json:"consecutive5xx,omitempty" doc:"answers in a row, 1 to 1000; default: 5"`
	Interval           string `json:"interval,omitempty" doc:"between two looks at who may come back, 1s to 5m; default: 10s"`
	EjectionTime       string `json:"ejectionTime,omitempty" doc:"the first time, and n times as long the n-th, 1s to 5m; default: 10s"`
	MaxEjectionPercent int    `json:"maxEjectionPercent,omitempty" doc:"of the endpoints of both environments, 1 to 100; default: 50"`
}

// BackendLimitsSpec are the circuit breakers of an API.
type BackendLimitsSpec struct {
	Connections int `json:"connections,omitempty" doc:"1 to 65535; default: 512"`
	Pending     int `json:"pending,omitempty" doc:"calls that wait for a connection, 1 to 65535; default: 512"`
	Requests    int `json:"requests,omitempty" doc:"calls at a time, 1 to 65535; default: 2048"`
	Retries     int `json:"retries,omitempty" doc:"retries at a time, 1 to 65535; default: a fifth of the calls, at least 3"`
}

// BackendTLSSpec is how a gateway and a back end with https know each other.
type BackendTLSSpec struct {
	CA                string `json:"ca,omitempty" doc:"name of the authorities that vouch for the back end, from the configuration of the gateways"`
	ClientCertificate string `json:"clientCertificate,omitempty" doc:"name of the certificate that the gateway shows, from there too"`
	ServerName        string `json:"serverName,omitempty" doc:"what the certificate must be for; default: the host of the endpoint"`
}

// noun reads s, which may be nil.
func (s *BackendSpec) noun(c *checks) keymanager.Backend {
	var b keymanager.Backend
	if s == nil {
		return b
	}
	const at = "/backend"
	if r := s.Retry; r != nil {
		b.Retry = &keymanager.Retry{
			Attempts: r.Attempts, On: named[keymanager.RetryCondition](r.On), AnyMethod: r.AnyMethod,
			PerTryTimeout: duration(c, at+"/retry/perTryTimeout", r.PerTryTimeout, 0),
			BackOff:       duration(c, at+"/retry/backOff", r.BackOff, 0),
		}
	}
	if h := s.HealthCheck; h != nil {
		b.HealthCheck = &keymanager.HealthCheck{
			Path: h.Path, Unhealthy: h.Unhealthy, Healthy: h.Healthy,
			Interval: duration(c, at+"/healthCheck/interval", h.Interval, 0),
			Timeout:  duration(c, at+"/healthCheck/timeout", h.Timeout, 0),
		}
	}
	if o := s.Outliers; o != nil {
		b.Outliers = &keymanager.OutlierDetection{
			Consecutive5xx: o.Consecutive5xx, MaxEjectionPercent: o.MaxEjectionPercent,
			Interval:     duration(c, at+"/outliers/interval", o.Interval, 0),
			EjectionTime: duration(c, at+"/outliers/ejectionTime", o.EjectionTime, 0),
		}
	}
	b.Limits = (*keymanager.BackendLimits)(s.Limits)
	b.TLS, b.SandboxTLS = (*keymanager.BackendTLS)(s.TLS), (*keymanager.BackendTLS)(s.SandboxTLS)
	return b
}

// backendSpec is the inverse of noun.
func backendSpec(b *keymanager.Backend) *BackendSpec {
	if *b == (keymanager.Backend{}) {
		return nil
	}
	s := &BackendSpec{Limits: (*BackendLimitsSpec)(b.Limits), TLS: (*BackendTLSSpec)(b.TLS), SandboxTLS: (*BackendTLSSpec)(b.SandboxTLS)}
	if r := b.Retry; r != nil {
		s.Retry = &RetrySpec{
			Attempts: r.Attempts, On: texts(r.On), AnyMethod: r.AnyMethod,
			PerTryTimeout: unlessZero(r.PerTryTimeout), BackOff: unlessZero(r.BackOff),
		}
	}
	if h := b.HealthCheck; h != nil {
		s.HealthCheck = &HealthCheckSpec{
			Path: h.Path, Interval: unlessZero(h.Interval), Timeout: unlessZero(h.Timeout),
			Unhealthy: h.Unhealthy, Healthy: h.Healthy,
		}
	}
	if o := b.Outliers; o != nil {
		s.Outliers = &OutlierSpec{
			Consecutive5xx: o.Consecutive5xx, Interval: unlessZero(o.Interval),
			EjectionTime: unlessZero(o.EjectionTime), MaxEjectionPercent: o.MaxEjectionPercent,
		}
	}
	return s
}

// unlessZero writes a time that has a default when it is 0.
func unlessZero(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
