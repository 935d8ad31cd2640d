package xds

import (
	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// metrics of this package. Labels are group, phase, kind of resource and
// configured certificate: bounded.
type metrics struct {
	nacks, responses, bytes *prometheus.CounterVec
	nodes, apis, rejected   *prometheus.GaugeVec
	expires, phases         *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"group", "type"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"group"})
	}
	m := &metrics{
		nacks:     counter("tollgate_xds_nacks_total", "Responses that an Envoy refused."),
		responses: counter("tollgate_xds_responses_total", "Responses sent to Envoys."),
		bytes:     counter("tollgate_xds_response_bytes_total", "Bytes of resources sent to Envoys."),
		nodes:     gauge("tollgate_xds_nodes", "Connected Envoys."),
		apis:      gauge("tollgate_xds_apis", "APIs of the gateway group."),
		rejected:  gauge("tollgate_xds_rejected_apis", "APIs whose newest content is not in use."),
		expires: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tollgate_xds_certificate_expires_timestamp_seconds", Help: "When the certificate in use expires, in Unix time.",
		}, []string{"certificate"}),
		phases: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tollgate_xds_phase", Help: "1 for the phase that the gateway group is in.",
		}, []string{"group", "phase"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.nacks, m.responses, m.bytes, m.nodes, m.apis, m.rejected, m.expires, m.phases} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) sent(group string, k kind, bytes int) {
	m.responses.WithLabelValues(group, k.String()).Inc()
	m.bytes.WithLabelValues(group, k.String()).Add(float64(bytes))
}

func (m *metrics) refused(group string, k kind) { m.nacks.WithLabelValues(group, k.String()).Inc() }

// certificates shows when each certificate in use expires.
func (m *metrics) certificates(c *certificates) {
	m.expires.Reset()
	for name, l := range c.good {
		m.expires.WithLabelValues(name).Set(float64(l.expires.Unix()))
	}
}

// phase shows how far the catalog of a group can be trusted.
func (m *metrics) phase(group string, now keymanager.GatewayPhase) {
	for _, p := range []keymanager.GatewayPhase{keymanager.PhaseSyncing, keymanager.PhaseLive, keymanager.PhaseStale} {
		on := 0.0
		if p == now {
			on = 1
		}
		m.phases.WithLabelValues(group, string(p)).Set(on)
	}
}

func (m *metrics) state(group string, s groupState) {
	connected := 0
	for _, n := range s.nodes {
		if n.Connected {
			connected++
		}
	}
	m.nodes.WithLabelValues(group).Set(float64(connected))
	m.apis.WithLabelValues(group).Set(float64(s.apis))
	m.rejected.WithLabelValues(group).Set(float64(len(s.rejected)))
}
