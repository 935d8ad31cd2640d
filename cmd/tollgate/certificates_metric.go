package main

import "github.com/prometheus/client_golang/prometheus"

// certificateExpiry shows when the certificates that this process uses itself
// expire. nil ones, which it does not have, are not shown.
type certificateExpiry struct{ own []*certificates }

var certificateExpiryDesc = prometheus.NewDesc("tollgate_certificate_expires_timestamp_seconds",
	"When the certificate in use expires, in Unix time: tls among the other processes, keymanager for HTTPS.",
	[]string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (certificateExpiry) Describe(out chan<- *prometheus.Desc) { out <- certificateExpiryDesc }

// Collect implements prometheus.Collector.
func (e certificateExpiry) Collect(out chan<- prometheus.Metric) {
	for _, c := range e.own {
		if c == nil {
			continue
		}
		end := c.current.Load().cert.Leaf.NotAfter
		out <- prometheus.MustNewConstMetric(certificateExpiryDesc, prometheus.GaugeValue, float64(end.Unix()), c.files.what)
	}
}
