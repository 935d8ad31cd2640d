package keymanager_test

import (
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
)

func TestValidateTimes(t *testing.T) {
	stale := func(d time.Duration) func(*keymanager.API) {
		return func(a *keymanager.API) { a.MaxStale = &d }
	}
	run(t, goodAPI, keymanager.ValidateAPI, []apiCase{
		{"max stale 0", stale(0), nil},
		{"max stale 10m", stale(10 * time.Minute), nil},
		{"max stale above 10m", stale(10*time.Minute + time.Second), []string{"/maxStale"}},
		{"max stale below 0", stale(-time.Second), []string{"/maxStale"}},
		{"max stale of a nanosecond", stale(1), []string{"/maxStale"}},
		{"stream with limits", func(a *keymanager.API) { a.Timeout, a.MaxDuration, a.IdleTimeout = 0, 24*time.Hour, time.Second }, nil},
		{"stream without end", func(a *keymanager.API) { a.Timeout, a.MaxDuration = 0, 25*time.Hour }, []string{"/maxDuration"}},
		{"stream of an instant", func(a *keymanager.API) { a.Timeout, a.MaxDuration = 0, time.Millisecond }, []string{"/maxDuration"}},
		{"silence below 0", func(a *keymanager.API) { a.Timeout, a.IdleTimeout = 0, -time.Second }, []string{"/idleTimeout"}},
		{"silence above 1h", func(a *keymanager.API) { a.Timeout, a.IdleTimeout = 0, 2*time.Hour }, []string{"/idleTimeout"}},
		{"duration of a call", func(a *keymanager.API) { a.MaxDuration = time.Minute }, []string{"/maxDuration"}},
		{"silence of a call", func(a *keymanager.API) { a.IdleTimeout = time.Minute }, []string{"/idleTimeout"}},
	})
}

func webSocketAPI() *keymanager.API {
	a := goodAPI()
	a.Protocol, a.Timeout, a.MaxDuration = keymanager.WebSocket, 0, 2*time.Hour
	a.Security = []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeOAuth2WebSocket}
	a.Resources = []keymanager.Resource{{Method: "GET", Path: "/*", AuthType: keymanager.AuthAny}}
	return a
}

func TestValidateWebSocket(t *testing.T) {
	run(t, webSocketAPI, keymanager.ValidateAPI, []apiCase{
		{"with a timeout", func(a *keymanager.API) { a.Timeout, a.MaxDuration = time.Second, 0 }, []string{"/timeout"}},
		{"POST", func(a *keymanager.API) { a.Resources[0].Method = "POST" }, []string{"/resources/0/method"}},
		{"any method", func(a *keymanager.API) { a.Resources[0].Method = "*" }, nil},
		{"its scheme without it", func(a *keymanager.API) { a.Protocol = keymanager.HTTP1 }, []string{"/security/1"}},
		{"a retry", func(a *keymanager.API) { a.Backend.Retry = &keymanager.Retry{Attempts: 1} }, nil},
		{"a retry after an answer", func(a *keymanager.API) {
			a.Backend.Retry = &keymanager.Retry{Attempts: 1, On: []keymanager.RetryCondition{keymanager.Retry503}}
		}, []string{"/backend/retry/on/0"}},
	})
}

func TestValidateBackend(t *testing.T) {
	retry := func(r keymanager.Retry) func(*keymanager.API) {
		return func(a *keymanager.API) { a.Backend.Retry = &r }
	}
	on := func(c ...keymanager.RetryCondition) []keymanager.RetryCondition { return c }
	health := func(h keymanager.HealthCheck) func(*keymanager.API) {
		return func(a *keymanager.API) { a.Backend.HealthCheck = &h }
	}
	outliers := func(o keymanager.OutlierDetection) func(*keymanager.API) {
		return func(a *keymanager.API) { a.Backend.Outliers = &o }
	}
	limits := func(l keymanager.BackendLimits) func(*keymanager.API) {
		return func(a *keymanager.API) { a.Backend.Limits = &l }
	}
	trust := func(tr keymanager.BackendTLS) func(*keymanager.API) {
		return func(a *keymanager.API) { a.Backend.TLS = &tr }
	}
	grpc := func(change func(*keymanager.API)) func(*keymanager.API) {
		return func(a *keymanager.API) { *a = *grpcAPI(); change(a) }
	}
	run(t, goodAPI, keymanager.ValidateAPI, []apiCase{
		{"never again", retry(keymanager.Retry{}), nil},
		{"all of a retry", retry(keymanager.Retry{Attempts: 5, On: on("connect-failure", "refused-stream", "reset-before-request", "502", "503", "504"),
			AnyMethod: true, PerTryTimeout: 10 * time.Millisecond, BackOff: 10 * time.Second}), nil},
		{"six attempts", retry(keymanager.Retry{Attempts: 6}), []string{"/backend/retry/attempts"}},
		{"less than no attempt", retry(keymanager.Retry{Attempts: -1}), []string{"/backend/retry/attempts"}},
		{"conditions of no attempt", retry(keymanager.Retry{On: on("502")}), []string{"/backend/retry/attempts"}},
		{"unknown condition", retry(keymanager.Retry{Attempts: 1, On: on("502", "5xx")}), []string{"/backend/retry/on/1"}},
		{"condition twice", retry(keymanager.Retry{Attempts: 1, On: on("502", "502")}), []string{"/backend/retry/on/1"}},
		{"a condition of gRPC", retry(keymanager.Retry{Attempts: 1, On: on("unavailable")}), []string{"/backend/retry/on/0"}},
		{"a condition of gRPC there", grpc(retry(keymanager.Retry{Attempts: 1, On: on("unavailable")})), nil},
		{"too many conditions", retry(keymanager.Retry{Attempts: 1, On: make([]keymanager.RetryCondition, 50)}), []string{"/backend/retry/on"}},
		{"a try longer than the call", retry(keymanager.Retry{Attempts: 1, PerTryTimeout: 31 * time.Second}), []string{"/backend/retry/perTryTimeout"}},
		{"a try of nothing", retry(keymanager.Retry{Attempts: 1, PerTryTimeout: time.Millisecond}), []string{"/backend/retry/perTryTimeout"}},
		{"a try of a stream", func(a *keymanager.API) {
			a.Timeout, a.Backend.Retry = 0, &keymanager.Retry{Attempts: 1, PerTryTimeout: time.Second}
		}, []string{"/backend/retry/perTryTimeout"}},
		{"a wait below 0", retry(keymanager.Retry{Attempts: 1, BackOff: -1}), []string{"/backend/retry/backOff"}},

		{"a check by connecting", health(keymanager.HealthCheck{}), nil},
		{"all of a check", health(keymanager.HealthCheck{Path: "/v1/health-z", Interval: time.Second, Timeout: time.Second, Unhealthy: 10, Healthy: 10}), nil},
		{"the root", health(keymanager.HealthCheck{Path: "/"}), nil},
		{"a path without slash", health(keymanager.HealthCheck{Path: "healthz"}), []string{"/backend/healthCheck/path"}},
		{"a path with a query", health(keymanager.HealthCheck{Path: "/h?token=x"}), []string{"/backend/healthCheck/path"}},
		{"a path of two lines", health(keymanager.HealthCheck{Path: "/h\r\nx: y"}), []string{"/backend/healthCheck/path"}},
		{"a long path", health(keymanager.HealthCheck{Path: "/" + strings.Repeat("a", 500)}), []string{"/backend/healthCheck/path"}},
		{"a path of gRPC", grpc(health(keymanager.HealthCheck{Path: "/h"})), []string{"/backend/healthCheck/path"}},
		{"gRPC", grpc(health(keymanager.HealthCheck{})), nil},
		{"too often", health(keymanager.HealthCheck{Interval: 100 * time.Millisecond, Timeout: 100 * time.Millisecond}), []string{"/backend/healthCheck/interval"}},
		{"longer than the interval", health(keymanager.HealthCheck{Timeout: 11 * time.Second}), []string{"/backend/healthCheck/timeout"}},
		{"thresholds", health(keymanager.HealthCheck{Unhealthy: 11, Healthy: -1}), []string{"/backend/healthCheck/unhealthy", "/backend/healthCheck/healthy"}},

		{"outliers by default", outliers(keymanager.OutlierDetection{}), nil},
		{"outliers beyond all limits", outliers(keymanager.OutlierDetection{Consecutive5xx: 1001, Interval: time.Hour, EjectionTime: time.Millisecond, MaxEjectionPercent: 101}),
			[]string{"/backend/outliers/consecutive5xx", "/backend/outliers/interval", "/backend/outliers/ejectionTime", "/backend/outliers/maxEjectionPercent"}},

		{"limits by default", limits(keymanager.BackendLimits{}), nil},
		{"limits beyond all limits", limits(keymanager.BackendLimits{Connections: 65536, Pending: -1, Requests: 1 << 40, Retries: -5}),
			[]string{"/backend/limits/connections", "/backend/limits/pending", "/backend/limits/requests", "/backend/limits/retries"}},

		{"trust", trust(keymanager.BackendTLS{CA: "partners", ClientCertificate: "edge-1", ServerName: "a.example"}), nil},
		{"names that are none", trust(keymanager.BackendTLS{CA: "../ca", ClientCertificate: "A b", ServerName: "A.example"}),
			[]string{"/backend/tls/ca", "/backend/tls/clientCertificate", "/backend/tls/serverName"}},
		{"trust of the sandbox", func(a *keymanager.API) {
			a.Sandbox = []string{"https://sandbox.example/v1"}
			a.Backend.SandboxTLS = &keymanager.BackendTLS{CA: "partners"}
		}, nil},
		{"names of the sandbox that are none", func(a *keymanager.API) {
			a.Sandbox = []string{"https://sandbox.example/v1"}
			a.Backend.SandboxTLS = &keymanager.BackendTLS{CA: "../ca", ClientCertificate: "A b", ServerName: "A.example"}
		}, []string{"/backend/sandboxTls/ca", "/backend/sandboxTls/clientCertificate", "/backend/sandboxTls/serverName"}},
		{"trust of a sandbox in clear text", func(a *keymanager.API) {
			a.Sandbox = []string{"http://sandbox.example/v1"}
			a.Backend.SandboxTLS = &keymanager.BackendTLS{CA: "partners"}
		}, []string{"/backend/sandboxTls"}},
		{"trust of a production in clear text beside a sandbox with its own", func(a *keymanager.API) {
			a.Production, a.Sandbox = []string{"http://a.example/v1"}, []string{"https://sandbox.example/v1"}
			a.Backend.TLS, a.Backend.SandboxTLS = &keymanager.BackendTLS{CA: "partners"}, &keymanager.BackendTLS{}
		}, []string{"/backend/tls"}},
		{"trust in clear text", func(a *keymanager.API) {
			a.Production = a.Production[1:]
			a.Backend.TLS = &keymanager.BackendTLS{CA: "partners"}
		}, []string{"/backend/tls"}},
	})
}

func TestBackendDefaults(t *testing.T) {
	if h := (keymanager.HealthCheck{Interval: time.Second}).Fill(); h.Timeout != time.Second || h.Unhealthy != 3 || h.Healthy != 2 {
		t.Errorf("health check: %+v", h)
	}
	if o := (keymanager.OutlierDetection{MaxEjectionPercent: 10}).Fill(); o.MaxEjectionPercent != 10 || o.Consecutive5xx != 5 ||
		o.Interval != 10*time.Second || o.EjectionTime != 10*time.Second {
		t.Errorf("outliers: %+v", o)
	}
	if l := (keymanager.BackendLimits{}).Fill(); l != (keymanager.BackendLimits{Connections: 512, Pending: 512, Requests: 2048}) {
		t.Errorf("limits: %+v", l)
	}
}
