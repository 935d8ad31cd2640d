package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"tollgate/keymanager"
	"tollgate/xds"
)

// gatewayCertificates are those that xds gives to Envoys, as their files are.
type gatewayCertificates struct {
	cfg  map[string]CertificateConfig
	list map[string]xds.Certificate
	next map[string]bool   // in list, and not valid yet when it was read
	said map[string]string // by name, the last complaint
	now  func() time.Time
	log  *slog.Logger
}

// readGatewayCertificates reads every file; one that cannot be read is an
// error. Whether what it holds can be used is for xds to say.
func readGatewayCertificates(cfg map[string]CertificateConfig, log *slog.Logger) (*gatewayCertificates, error) {
	g := &gatewayCertificates{cfg: cfg, list: map[string]xds.Certificate{}, next: map[string]bool{}, said: map[string]string{}, now: time.Now, log: log}
	for _, name := range slices.Sorted(maps.Keys(cfg)) {
		cert, err := readGatewayCertificate(cfg[name])
		if err != nil {
			return nil, fmt.Errorf("xds.certificates.%s.%w", name, err)
		}
		g.list[name], g.next[name] = cert, g.early(cert) != nil
	}
	return g, nil
}

// early says that a certificate is not valid yet, which passes: the clock that
// it was made by is ahead of the one here.
func (g *gatewayCertificates) early(c xds.Certificate) error {
	if block, _ := pem.Decode(c.CertPEM); block != nil {
		if leaf, err := x509.ParseCertificate(block.Bytes); err == nil && g.now().Before(leaf.NotBefore) {
			return fmt.Errorf("cert_file: the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	return nil
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
	list, changed := maps.Clone(g.list), []string{}
	for _, name := range slices.Sorted(maps.Keys(g.cfg)) {
		cert, err := readGatewayCertificate(g.cfg[name])
		old := g.list[name]
		changes := g.next[name] || !bytes.Equal(cert.CertPEM, old.CertPEM) || !bytes.Equal(cert.KeyPEM, old.KeyPEM) || !bytes.Equal(cert.CAPEM, old.CAPEM)
		if err == nil && changes {
			err = g.early(cert)
		}
		if err != nil {
			if g.said[name] != err.Error() {
				g.log.Error("a certificate for Envoys cannot be used yet, or not be read; the old one stays", "certificate", name, "error", err)
			}
			g.said[name] = err.Error()
			continue
		}
		delete(g.said, name)
		if changes {
			list[name], changed = cert, append(changed, name)
			delete(g.next, name)
		}
	}
	if len(changed) == 0 {
		return
	}
	g.list = list
	if err := set(maps.Clone(list)); err != nil {
		g.log.Error("of the certificates for Envoys some cannot be used; of these the old ones stay", "changed", changed, "error", err)
		return
	}
	g.log.Info("certificates for Envoys reloaded", "changed", changed)
}
