package keymanager

import (
	"cmp"
	"time"
)

// Backend is how gateways deal with the back ends of an API, production and
// sandbox alike unless it says otherwise. Each part that is nil, and each number
// that is zero, has the default that stands beside it.
type Backend struct {
	// Retry is when a call is sent again. nil = once more, and only what has not
	// reached a back end (DefaultRetry).
	Retry *Retry
	// HealthCheck asks every endpoint whether it is well. nil = nobody asks.
	HealthCheck *HealthCheck
	// Outliers are endpoints that are left out for a while because they fail.
	// nil = only for five failures to connect in a row.
	Outliers *OutlierDetection
	// Limits are the circuit breakers. nil = the defaults of Limits.
	Limits *BackendLimits
	// TLS is for endpoints with https. nil = verified by the authorities of the
	// gateway group, no client certificate.
	TLS *BackendTLS
	// SandboxTLS is for the sandbox endpoints, in place of TLS. nil = TLS for
	// them too.
	SandboxTLS *BackendTLS
}

// RetryCondition is a failure after which a call may be sent again.
type RetryCondition string

// The conditions of a retry. After the first three no back end has seen the
// call; after the others one may have acted on it, so they count for idempotent
// methods alone (RFC 9110 section 9.2.2: every known one but POST and PATCH)
// unless Retry.AnyMethod is set. 503 is also a connection that breaks before the
// answer, and with 503 or 504 the end of Retry.PerTryTimeout counts too.
const (
	RetryConnectFailure     RetryCondition = "connect-failure"
	RetryRefusedStream      RetryCondition = "refused-stream"
	RetryResetBeforeRequest RetryCondition = "reset-before-request"
	Retry502                RetryCondition = "502"
	Retry503                RetryCondition = "503"
	Retry504                RetryCondition = "504"
	// RetryUnavailable is status 14 of gRPC, which asks for it (gRPC status codes:
	// "retrying with a backoff"). Only of a gRPC API, whose every call is a POST.
	RetryUnavailable RetryCondition = "unavailable"
)

// SafeRetries are the conditions after which no back end has seen the call.
func SafeRetries() []RetryCondition {
	return []RetryCondition{RetryConnectFailure, RetryRefusedStream, RetryResetBeforeRequest}
}

// DefaultRetryBackOff is the mean wait before the first retry; each further one
// waits up to twice as long.
const DefaultRetryBackOff = 25 * time.Millisecond

// Retry is when and how often a call is sent to a back end again. It is
// decided on once: a retry is the gateway's own.
type Retry struct {
	Attempts      int              // after the first: 0 (never) to 5
	On            []RetryCondition // none = SafeRetries
	AnyMethod     bool             // also POST and PATCH after 502, 503 and 504
	PerTryTimeout time.Duration    // 10 ms to API.Timeout; 0 = API.Timeout for all together
	BackOff       time.Duration    // 1 ms to 10 s; 0 = DefaultRetryBackOff
}

// DefaultRetry is the retry of an API that names none.
func DefaultRetry() Retry { return Retry{Attempts: 1} }

// HealthCheck is a question that a gateway asks every endpoint again and again.
// While all endpoints of an environment are unwell its calls are answered 503.
type HealthCheck struct {
	// Path is asked by GET and answered 200 to 399 by who is well. "" = a TCP
	// connection is enough; a gRPC API, which has no path, is asked by
	// grpc.health.v1.
	Path      string
	Interval  time.Duration // 1 s to 5 min; 0 = 10 s
	Timeout   time.Duration // 100 ms to Interval, at most 60 s; 0 = 2 s, or Interval if that is less
	Unhealthy int           // failures in a row, 1 to 10; 0 = 3
	Healthy   int           // successes in a row, 1 to 10; 0 = 2
}

// Fill returns the check with its defaults.
func (h HealthCheck) Fill() HealthCheck {
	h.Interval = cmp.Or(h.Interval, 10*time.Second)
	h.Timeout = cmp.Or(h.Timeout, min(2*time.Second, h.Interval))
	h.Unhealthy = cmp.Or(h.Unhealthy, 3)
	h.Healthy = cmp.Or(h.Healthy, 2)
	return h
}

// OutlierDetection leaves an endpoint out for a while that answers 5xx, besides
// one that cannot be connected to five times in a row. When all endpoints of
// an environment are left out, and no HealthCheck knows better, they are tried
// all the same.
type OutlierDetection struct {
	Consecutive5xx     int           // answers in a row, 1 to 1000; 0 = 5
	Interval           time.Duration // between two looks at who may come back, 1 s to 5 min; 0 = 10 s
	EjectionTime       time.Duration // the first time; n times as long the n-th, at most 5 min. 1 s to 5 min; 0 = 10 s
	MaxEjectionPercent int           // of the endpoints of both environments, 1 to 100; 0 = 50
}

// Fill returns the detection with its defaults.
func (o OutlierDetection) Fill() OutlierDetection {
	o.Consecutive5xx = cmp.Or(o.Consecutive5xx, 5)
	o.Interval = cmp.Or(o.Interval, 10*time.Second)
	o.EjectionTime = cmp.Or(o.EjectionTime, 10*time.Second)
	o.MaxEjectionPercent = cmp.Or(o.MaxEjectionPercent, 50)
	return o
}

// BackendLimits are circuit breakers: what is above them is answered 503 at
// once. They hold for each gateway, and for production and sandbox together.
type BackendLimits struct {
	Connections int // of HTTP/1.1: calls at a time. 1 to 65535; 0 = 512
	Pending     int // calls that wait for a connection, 1 to 65535; 0 = 512
	Requests    int // calls at a time, 1 to 65535; 0 = 2048
	Retries     int // retries at a time, 1 to 65535; 0 = a fifth of the calls, at least 3
}

// Fill returns the limits with their defaults; Retries stays 0.
func (l BackendLimits) Fill() BackendLimits {
	l.Connections = cmp.Or(l.Connections, 512)
	l.Pending = cmp.Or(l.Pending, 512)
	l.Requests = cmp.Or(l.Requests, 2048)
	return l
}

// BackendTLS is how a gateway and a back end with https know each other. CA and
// ClientCertificate are names from the configuration of the gateways, which
// says what organizations may use each; a name that is not there, or not for
// this organization, takes the API out of use and nothing else.
type BackendTLS struct {
	CA                string // authorities that vouch for the back end; "" = those of the gateway group
	ClientCertificate string // what the gateway shows; "" = none
	ServerName        string // what the certificate must be for, and SNI; "" = the host of the endpoint
}
