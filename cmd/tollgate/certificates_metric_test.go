package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager/peertest"
)

// A process says when its own certificates expire, and nothing of those that
// it does not have.
func TestCertificateExpiryIsShown(t *testing.T) {
	ca := peertest.CA(t)
	cfg := newCertFolder(t, ca.Server("xds/xds-1"), ca).config()
	own, err := loadCertificates(certificateFiles{"tls", cfg.CertFile, cfg.KeyFile, cfg.CAFile}, peertest.TrustDomain, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewPedanticRegistry()
	metrics.MustRegister(certificateExpiry{[]*certificates{own, nil}})
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("%v %v", families, err)
	}
	shown := families[0].GetMetric()[0]
	if got, want := shown.GetGauge().GetValue(), float64(own.current.Load().cert.Leaf.NotAfter.Unix()); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if l := shown.GetLabel(); len(l) != 1 || l[0].GetName() != "certificate" || l[0].GetValue() != "tls" {
		t.Errorf("labels %v", l)
	}
}
