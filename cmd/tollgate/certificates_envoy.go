package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"tollgate/keymanager"
	"tollgate/xds"
)

// gatewayCertificates are those that xds gives to Envoys, as their files are.
type gatewayCertificates struct {
	cfg  map[string]CertificateConfig
	list map[string]xds.Certificate
	said map[string]string // by name, the last complaint
	log  *slog.Logger
}

// readGatewayCertificates reads every file; one that cannot be read is an
// error. Whether what it holds can be used is for xds to say.
func readGatewayCertificates(cfg map[string]CertificateConfig, log *slog.Logger) (*gatewayCertificates, error) {
	g := &gatewayCertificates{cfg: cfg, list: map[string]xds.Certificate{}, said: map[string]string{}, log: log}
	for _, name := range slices.Sorted(maps.Keys(cfg)) {
		cert, err := readGatewayCertificate(cfg[name])
		if err != nil {
			return nil, fmt.Errorf("xds.certificates.%s.%w", name, err)
		}
		g.list[name] = cert
	}
	return g, nil
}

func readGatewayCertificate(cfg CertificateConfig) (out xds.Certificate, err error) {
	for _, org := range cfg.Organizations {
		out.Organizations = append(out.Organizations, keymanager.OrganizationID(org))
	}
	for _, f := range []struct {
		key, path string
		into      *[]byte
	}{{"cert_file", cfg.CertFile, &out.CertPEM}, {"key_file", cfg.KeyFile, &out.KeyPEM}, {"ca_file", cfg.CAFile, &out.CAPEM}} {
		if f.path == "" {
			continue
		}
		if f.key == "key_file" {
			err = checkKeyFile(f.path)
		}
		if err == nil {
			*f.into, err = readSmallFile(f.path, maxConfigSize)
		}
		if err != nil {
			return out, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return out, nil
}

// follow gives every change of the files to set, until ctx ends. A file that
// cannot be read leaves its certificate as it is.
func (g *gatewayCertificates) follow(ctx context.Context, set func(map[string]xds.Certificate) error) error {
	return every(ctx, reloadEvery, func() error { g.reload(set); return nil })
}

func (g *gatewayCertificates) reload(set func(map[string]xds.Certificate) error) {
	next, changed := maps.Clone(g.list), []string{}
	for _, name := range slices.Sorted(maps.Keys(g.cfg)) {
		cert, err := readGatewayCertificate(g.cfg[name])
		if err != nil {
			if g.said[name] != err.Error() {
				g.log.Error("a certificate for Envoys cannot be read; the old one stays", "certificate", name, "error", err)
			}
			g.said[name] = err.Error()
			continue
		}
		delete(g.said, name)
		old := g.list[name]
		if !bytes.Equal(cert.CertPEM, old.CertPEM) || !bytes.Equal(cert.KeyPEM, old.KeyPEM) || !bytes.Equal(cert.CAPEM, old.CAPEM) {
			next[name], changed = cert, append(changed, name)
		}
	}
	if len(changed) == 0 {
		return
	}
	g.list = next
	if err := set(maps.Clone(next)); err != nil {
		g.log.Error("new certificates for Envoys cannot be used; the old ones stay", "changed", changed, "error", err)
		return
	}
	g.log.Info("certificates for Envoys reloaded", "changed", changed)
}
