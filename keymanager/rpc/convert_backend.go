package rpc

import (
	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

var retryConditions = newEnum("condition of a retry", map[keymanager.RetryCondition]pb.RetryCondition{
	keymanager.RetryConnectFailure:     pb.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE,
	keymanager.RetryRefusedStream:      pb.RetryCondition_RETRY_CONDITION_REFUSED_STREAM,
	keymanager.RetryResetBeforeRequest: pb.RetryCondition_RETRY_CONDITION_RESET_BEFORE_REQUEST,
	keymanager.Retry502:                pb.RetryCondition_RETRY_CONDITION_502,
	keymanager.Retry503:                pb.RetryCondition_RETRY_CONDITION_503,
	keymanager.Retry504:                pb.RetryCondition_RETRY_CONDITION_504,
	keymanager.RetryUnavailable:        pb.RetryCondition_RETRY_CONDITION_UNAVAILABLE,
})

// backendTo writes no message where everything has its default.
func (c *converter) backendTo(b keymanager.Backend) *pb.Backend {
	if b == (keymanager.Backend{}) {
		return nil
	}
	m := &pb.Backend{}
	if r := b.Retry; r != nil {
		m.Retry = &pb.Retry{
			Attempts: int64(r.Attempts), AnyMethod: r.AnyMethod, PerTryTimeout: optionalTo(r.PerTryTimeout), BackOff: optionalTo(r.BackOff),
			On: each(r.On, func(v keymanager.RetryCondition) pb.RetryCondition { return write(c, retryConditions, v) }),
		}
	}
	if h := b.HealthCheck; h != nil {
		m.HealthCheck = &pb.HealthCheck{
			Path: h.Path, Interval: optionalTo(h.Interval), Timeout: optionalTo(h.Timeout), Unhealthy: int64(h.Unhealthy), Healthy: int64(h.Healthy),
		}
	}
	if o := b.Outliers; o != nil {
		m.Outliers = &pb.OutlierDetection{
			Consecutive_5Xx: int64(o.Consecutive5xx), Interval: optionalTo(o.Interval), EjectionTime: optionalTo(o.EjectionTime),
			MaxEjectionPercent: int64(o.MaxEjectionPercent),
		}
	}
	if l := b.Limits; l != nil {
		m.Limits = &pb.BackendLimits{
			Connections: int64(l.Connections), Pending: int64(l.Pending), Requests: int64(l.Requests), Retries: int64(l.Retries),
		}
	}
	m.Tls, m.SandboxTls = backendTLSTo(b.TLS), backendTLSTo(b.SandboxTLS)
	return m
}

func backendTLSTo(t *keymanager.BackendTLS) *pb.BackendTLS {
	if t == nil {
		return nil
	}
	return &pb.BackendTLS{Ca: t.CA, ClientCertificate: t.ClientCertificate, ServerName: t.ServerName}
}

func (c *converter) backendFrom(m *pb.Backend) keymanager.Backend {
	var b keymanager.Backend
	if r := m.GetRetry(); r != nil {
		b.Retry = &keymanager.Retry{
			Attempts: int(r.GetAttempts()), AnyMethod: r.GetAnyMethod(),
			PerTryTimeout: c.optionalFrom(r.GetPerTryTimeout()), BackOff: c.optionalFrom(r.GetBackOff()),
			On: each(r.GetOn(), func(v pb.RetryCondition) keymanager.RetryCondition { return read(c, retryConditions, v) }),
		}
	}
	if h := m.GetHealthCheck(); h != nil {
		b.HealthCheck = &keymanager.HealthCheck{
			Path: h.GetPath(), Interval: c.optionalFrom(h.GetInterval()), Timeout: c.optionalFrom(h.GetTimeout()),
			Unhealthy: int(h.GetUnhealthy()), Healthy: int(h.GetHealthy()),
		}
	}
	if o := m.GetOutliers(); o != nil {
		b.Outliers = &keymanager.OutlierDetection{
			Consecutive5xx: int(o.GetConsecutive_5Xx()), Interval: c.optionalFrom(o.GetInterval()), EjectionTime: c.optionalFrom(o.GetEjectionTime()),
			MaxEjectionPercent: int(o.GetMaxEjectionPercent()),
		}
	}
	if l := m.GetLimits(); l != nil {
		b.Limits = &keymanager.BackendLimits{
			Connections: int(l.GetConnections()), Pending: int(l.GetPending()), Requests: int(l.GetRequests()), Retries: int(l.GetRetries()),
		}
	}
	b.TLS, b.SandboxTLS = backendTLSFrom(m.GetTls()), backendTLSFrom(m.GetSandboxTls())
	return b
}

func backendTLSFrom(t *pb.BackendTLS) *keymanager.BackendTLS {
	if t == nil {
		return nil
	}
	return &keymanager.BackendTLS{CA: t.GetCa(), ClientCertificate: t.GetClientCertificate(), ServerName: t.GetServerName()}
}
