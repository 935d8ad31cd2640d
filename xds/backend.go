package xds

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"tollgate/keymanager"
)

// checkBackend keeps out what would turn into another number on its way to
// Envoy, or has no meaning here. Limits are the key manager's business.
func checkBackend(b *keymanager.Backend) error {
	var times []time.Duration
	var numbers []int
	if r := b.Retry; r != nil {
		times, numbers = append(times, r.PerTryTimeout, r.BackOff), append(numbers, r.Attempts)
		for _, c := range r.On {
			if retryOn[c] == "" {
				return fmt.Errorf("retry condition %q is not known", c)
			}
		}
	}
	if h := b.HealthCheck; h != nil {
		times, numbers = append(times, h.Interval, h.Timeout), append(numbers, h.Unhealthy, h.Healthy)
	}
	if o := b.Outliers; o != nil {
		times, numbers = append(times, o.Interval, o.EjectionTime), append(numbers, o.Consecutive5xx, o.MaxEjectionPercent)
	}
	if l := b.Limits; l != nil {
		numbers = append(numbers, l.Connections, l.Pending, l.Requests, l.Retries)
	}
	for _, d := range times {
		if d < 0 {
			return fmt.Errorf("backend: time %v is negative", d)
		}
	}
	for _, n := range numbers {
		if n < 0 || n > 1<<20 {
			return fmt.Errorf("backend: number %d", n)
		}
	}
	return nil
}

// backendID tells two policies apart that make different clusters. What only
// shapes routes is not in it, and the policy of an API that names none is "".
func backendID(b *keymanager.Backend) string {
	id := ""
	if b.HealthCheck != nil {
		id += fmt.Sprintf("health %q\n", fmt.Sprint(b.HealthCheck.Fill()))
	}
	if b.Outliers != nil {
		id += fmt.Sprintf("outliers %v\n", b.Outliers.Fill())
	}
	if b.Limits != nil {
		id += fmt.Sprintf("limits %v\n", b.Limits.Fill())
	}
	return id
}

// breakers answer 503 at once to what is above a limit.
func breakers(limits *keymanager.BackendLimits) *clusterv3.CircuitBreakers {
	var l keymanager.BackendLimits
	if limits != nil {
		l = *limits
	}
	l = l.Fill()
	t := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections:     uint32Value(uint32(l.Connections)),
		MaxPendingRequests: uint32Value(uint32(l.Pending)),
		MaxRequests:        uint32Value(uint32(l.Requests)),
	}
	if l.Retries > 0 {
		t.MaxRetries = uint32Value(uint32(l.Retries))
	} else {
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent: &typev3.Percent{Value: 20}, MinRetryConcurrency: uint32Value(3),
		}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

// outliers leaves out who cannot be connected to and, if an API asks for it,
// who answers 5xx: otherwise it may answer as it likes.
func outliers(policy *keymanager.OutlierDetection) *clusterv3.OutlierDetection {
	out := &clusterv3.OutlierDetection{
		Consecutive_5Xx:                uint32Value(0),
		EnforcingConsecutive_5Xx:       uint32Value(0),
		ConsecutiveLocalOriginFailure:  uint32Value(5),
		SplitExternalLocalOriginErrors: true,
		BaseEjectionTime:               seconds(10),
		MaxEjectionPercent:             uint32Value(50),
	}
	if policy != nil {
		o := policy.Fill()
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = uint32Value(uint32(o.Consecutive5xx)), uint32Value(100)
		out.Interval, out.BaseEjectionTime = durationpb.New(o.Interval), durationpb.New(o.EjectionTime)
		out.MaxEjectionPercent = uint32Value(uint32(o.MaxEjectionPercent))
		out.EnforcingSuccessRate, out.EnforcingLocalOriginSuccessRate = uint32Value(0), uint32Value(0)
	}
	return out
}

// setHealthCheck makes Envoy ask every endpoint. Then it knows who is well, and
// answers 503 when nobody is. (Without a check it goes on trying those of the
// environment that were left out: 0 % would turn an endpoint without neighbours
// off for the time of its ejection.)
func setHealthCheck(c *clusterv3.Cluster, protocol keymanager.Protocol, policy *keymanager.HealthCheck) {
	if policy == nil {
		return
	}
	h := policy.Fill()
	check := &corev3.HealthCheck{
		Interval: durationpb.New(h.Interval), Timeout: durationpb.New(h.Timeout),
		// Without calls too: else an endpoint that comes back waits a minute.
		NoTrafficInterval:  durationpb.New(h.Interval),
		UnhealthyThreshold: uint32Value(uint32(h.Unhealthy)), HealthyThreshold: uint32Value(uint32(h.Healthy)),
	}
	switch {
	case protocol == keymanager.GRPC:
		check.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}}
	case h.Path == "":
		check.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	default:
		http := &corev3.HealthCheck_HttpHealthCheck{
			Path:             h.Path,
			ExpectedStatuses: []*typev3.Int64Range{{Start: 200, End: 400}},
			// Else a single other status turns an endpoint off.
			RetriableStatuses: []*typev3.Int64Range{{Start: 400, End: 600}},
		}
		if protocol == keymanager.HTTP2 {
			http.CodecClientType = typev3.CodecClientType_HTTP2
		}
		check.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: http}
		for _, e := range c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints() {
			e.GetEndpoint().HealthCheckConfig = &endpointv3.Endpoint_HealthCheckConfig{Hostname: e.GetEndpoint().GetHostname()}
		}
	}
	c.HealthChecks = []*corev3.HealthCheck{check}
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 0}}
}
