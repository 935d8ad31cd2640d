package main

import (
	"crypto/rand"
	"errors"
	"time"

	"tollgate/keymanager/usage"
)

// usageReceiver takes the usage records of Envoys where this key manager serves
// other processes.
func (d *daemon) usageReceiver() (*usage.Receiver, error) {
	writer, err := usage.NewWriter(usage.WriterOptions{Store: d.store, Rand: rand.Reader, Queue: d.cfg.KeyManager.Usage.Queue, Logger: d.log})
	if err != nil {
		return nil, err
	}
	d.background = append(d.background, task{"usage records", writer.Run})
	receiver, err := usage.NewReceiver(usage.ReceiverOptions{Writer: writer, TrustDomain: d.cfg.TLS.TrustDomain, Now: time.Now, Logger: d.log})
	return receiver, errors.Join(err, d.metrics.Register(writer))
}

// pruneUsage removes usage records that are old, whoever wrote them.
func (d *daemon) pruneUsage() error {
	pruner, err := usage.NewPruner(usage.PrunerOptions{
		Store: d.store, Retention: time.Duration(d.cfg.KeyManager.Usage.Retention), Now: time.Now, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.background = append(d.background, task{"old usage records", pruner.Run})
	return d.metrics.Register(pruner)
}

// usageAddress is where the Envoy of this machine sends usage records; "" where
// it sends none.
func (d *daemon) usageAddress() string {
	if !d.cfg.Gateway.Usage {
		return ""
	}
	return d.rpcAddress()
}
