package xds

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of this package. Labels are group and kind of resource: bounded.
type metrics struct {
	nacks, responses, bytes *prometheus.CounterVec
	nodes, apis, rejected   *prometheus.GaugeVec
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
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.nacks, m.responses, m.bytes, m.nodes, m.apis, m.rejected} {
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
