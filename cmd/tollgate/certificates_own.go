package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"tollgate/keymanager"
)

// loadCertificates reads the certificates of this process, which must be for
// what it does.
func (d *daemon) loadCertificates() (err error) {
	if d.identity, d.https, err = ownCertificates(&d.cfg, d.roles, d.log); err != nil {
		return err
	}
	d.metrics.MustRegister(certificateExpiry{[]*certificates{d.identity, d.https}})
	if d.identity != nil {
		d.background = append(d.background, task{"certificate", d.identity.Run})
	}
	if d.https != nil {
		d.background = append(d.background, task{"certificate of the key manager", d.https.Run})
	}
	return nil
}

// ownCertificates loads what the configuration names: the certificate of this
// process among the others, and that of the key manager's HTTPS; nil for what
// it does not.
func ownCertificates(cfg *Config, r roles, log *slog.Logger) (among, https *certificates, err error) {
	if t := cfg.TLS; t.enabled() {
		among, err = loadCertificates(certificateFiles{"tls", t.CertFile, t.KeyFile, t.CAFile}, t.TrustDomain, time.Now, log)
		if err == nil {
			err = checkIdentity(cfg, r, among.peer())
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if k := cfg.KeyManager; r.keyManager && k.CertFile != "" {
		https, err = loadCertificates(certificateFiles{"keymanager", k.CertFile, k.KeyFile, ""}, "", time.Now, log)
	}
	return among, https, err
}

// checkCertificates loads what a configuration names, for check-config.
func checkCertificates(cfg *Config, r roles) error {
	if r == (roles{}) {
		r.keyManager = cfg.KeyManager.CertFile != "" // no more is known
		cert := *cfg
		cert.TLS = TLSConfig{}
		_, _, err := ownCertificates(&cert, r, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if t := cfg.TLS; err == nil && t.enabled() {
			_, err = loadCertificates(certificateFiles{"tls", t.CertFile, t.KeyFile, t.CAFile}, t.TrustDomain, time.Now, nil)
		}
		return err
	}
	_, _, err := ownCertificates(cfg, r, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err == nil && r.xds {
		_, err = readGatewayCertificates(cfg.XDS.Certificates, nil)
	}
	return err
}

// checkIdentity refuses a certificate that the others would refuse: what
// listens beyond this machine, and who asks the key managers, is known by its
// role.
func checkIdentity(cfg *Config, r roles, peer keymanager.Peer) error {
	needs := map[keymanager.Role]string{} // role → why
	if r.keyManager && cfg.RPC.Address != "" && !isSocket(cfg.RPC.Address) {
		needs[keymanager.RoleKeyManager] = "rpc.address"
	}
	if r.authz && cfg.Authz.Address != "" {
		needs[keymanager.RoleAuthz] = "authz.address"
	}
	if r.xds && cfg.XDS.Address != "" && !isSocket(cfg.XDS.Address) {
		needs[keymanager.RoleXDS] = "xds.address"
	}
	if r.remote() && overNetwork(cfg.RPC.Servers) {
		if r.authz {
			needs[keymanager.RoleAuthz] = "rpc.servers"
		}
		if r.xds {
			needs[keymanager.RoleXDS] = "rpc.servers"
		}
	}
	ours := map[keymanager.Role]bool{keymanager.RoleKeyManager: r.keyManager, keymanager.RoleAuthz: r.authz, keymanager.RoleXDS: r.xds}
	if !ours[peer.Role] {
		return fmt.Errorf("tls.cert_file: %s: the certificate is that of %s, and this process runs %s", cfg.TLS.CertFile, peer, r)
	}
	for role, setting := range needs {
		if role != peer.Role {
			return fmt.Errorf("tls.cert_file: %s: the certificate is that of %s, and %s needs one of the role %s: "+
				"a certificate is for one role, so give each role a process of its own", cfg.TLS.CertFile, peer, setting, role)
		}
	}
	if peer.Role == keymanager.RoleAuthz && peer.Group != cfg.Gateway.Group {
		return fmt.Errorf("tls.cert_file: %s: the certificate is for the gateway group %s, and gateway.group is %s",
			cfg.TLS.CertFile, peer.Group, cfg.Gateway.Group)
	}
	return nil
}
