package sqlstore

import "tollgate/keymanager"

// backendSpec is how an API's back ends are dealt with, as it is stored. What
// was left out is not there: a default that changes later holds for old rows.
type backendSpec struct {
	Retry       *retrySpec       `json:"retry,omitempty"`
	HealthCheck *healthCheckSpec `json:"health_check,omitempty"`
	Outliers    *outlierSpec     `json:"outliers,omitempty"`
	Limits      *limitsSpec      `json:"limits,omitempty"`
	TLS         *backendTLSSpec  `json:"tls,omitempty"`
	SandboxTLS  *backendTLSSpec  `json:"sandbox_tls,omitempty"`
}

type retrySpec struct {
	Attempts  int                         `json:"attempts"`
	On        []keymanager.RetryCondition `json:"on,omitempty"`
	AnyMethod bool                        `json:"any_method,omitempty"`
	PerTryMS  int64                       `json:"per_try_ms,omitempty"`
	BackOffMS int64                       `json:"back_off_ms,omitempty"`
}

type healthCheckSpec struct {
	Path       string `json:"path,omitempty"`
	IntervalMS int64  `json:"interval_ms,omitempty"`
	TimeoutMS  int64  `json:"timeout_ms,omitempty"`
	Unhealthy  int    `json:"unhealthy,omitempty"`
	Healthy    int    `json:"healthy,omitempty"`
}

type outlierSpec struct {
	Consecutive5xx int   `json:"consecutive_5xx,omitempty"`
	IntervalMS     int64 `json:"interval_ms,omitempty"`
	EjectionMS     int64 `json:"ejection_ms,omitempty"`
	MaxPercent     int   `json:"max_percent,omitempty"`
}

type limitsSpec struct {
	Connections int `json:"connections,omitempty"`
	Pending     int `json:"pending,omitempty"`
	Requests    int `json:"requests,omitempty"`
	Retries     int `json:"retries,omitempty"`
}

type backendTLSSpec struct {
	CA                string `json:"ca,omitempty"`
	ClientCertificate string `json:"client_certificate,omitempty"`
	ServerName        string `json:"server_name,omitempty"`
}

// backendSpecOf returns nil if there is nothing to store.
func backendSpecOf(b *keymanager.Backend) *backendSpec {
	if *b == (keymanager.Backend{}) {
		return nil
	}
	s := &backendSpec{Limits: (*limitsSpec)(b.Limits), TLS: (*backendTLSSpec)(b.TLS), SandboxTLS: (*backendTLSSpec)(b.SandboxTLS)}
	if r := b.Retry; r != nil {
		s.Retry = &retrySpec{Attempts: r.Attempts, On: r.On, AnyMethod: r.AnyMethod,
			PerTryMS: r.PerTryTimeout.Milliseconds(), BackOffMS: r.BackOff.Milliseconds()}
	}
	if h := b.HealthCheck; h != nil {
		s.HealthCheck = &healthCheckSpec{Path: h.Path, IntervalMS: h.Interval.Milliseconds(), TimeoutMS: h.Timeout.Milliseconds(),
			Unhealthy: h.Unhealthy, Healthy: h.Healthy}
	}
	if o := b.Outliers; o != nil {
		s.Outliers = &outlierSpec{Consecutive5xx: o.Consecutive5xx, IntervalMS: o.Interval.Milliseconds(),
			EjectionMS: o.EjectionTime.Milliseconds(), MaxPercent: o.MaxEjectionPercent}
	}
	return s
}

// backend is the inverse of backendSpecOf.
func (s *backendSpec) backend() keymanager.Backend {
	if s == nil {
		return keymanager.Backend{}
	}
	b := keymanager.Backend{Limits: (*keymanager.BackendLimits)(s.Limits), TLS: (*keymanager.BackendTLS)(s.TLS), SandboxTLS: (*keymanager.BackendTLS)(s.SandboxTLS)}
	if r := s.Retry; r != nil {
		b.Retry = &keymanager.Retry{Attempts: r.Attempts, On: r.On, AnyMethod: r.AnyMethod,
			PerTryTimeout: span(r.PerTryMS), BackOff: span(r.BackOffMS)}
	}
	if h := s.HealthCheck; h != nil {
		b.HealthCheck = &keymanager.HealthCheck{Path: h.Path, Interval: span(h.IntervalMS), Timeout: span(h.TimeoutMS),
			Unhealthy: h.Unhealthy, Healthy: h.Healthy}
	}
	if o := s.Outliers; o != nil {
		b.Outliers = &keymanager.OutlierDetection{Consecutive5xx: o.Consecutive5xx, Interval: span(o.IntervalMS),
			EjectionTime: span(o.EjectionMS), MaxEjectionPercent: o.MaxPercent}
	}
	return b
}
