package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"tollgate/keymanager"
)

// certificateFiles are where a certificate lies, in PEM. Without CA it is one
// that others do not answer with their own.
type certificateFiles struct {
	what          string // for messages: tls, keymanager
	cert, key, ca string
}

// identity is what the files held when they were last good.
type identity struct {
	cert  tls.Certificate
	peer  keymanager.Peer // the zero Peer without a trust domain
	roots *x509.CertPool  // nil without a CA file
	bytes [3][]byte       // as read, to see a change
}

// certificates hold the certificate of this process, and follow its files: one
// that was renewed is used from the next connection on.
type certificates struct {
	files       certificateFiles
	trustDomain string // "" = the certificate names no peer
	now         func() time.Time
	log         *slog.Logger
	current     atomic.Pointer[identity]
	said        string // the last complaint; belongs to Run
}

// reloadEvery is how often the files are looked at. By content, not by an
// event: what Kubernetes mounts changes through a symbolic link.
const reloadEvery = 2 * time.Second

// loadCertificates reads the files; all of them must be good.
func loadCertificates(files certificateFiles, trustDomain string, now func() time.Time, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, trustDomain: trustDomain, now: now, log: log}
	id, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(id)
	return c, nil
}

func (c *certificates) read() (*identity, error) {
	id := &identity{}
	fail := func(setting, path string, err error) (*identity, error) {
		return nil, fmt.Errorf("%s.%s: %s: %w", c.files.what, setting, path, err)
	}
	var err error
	if id.bytes[0], err = readSmallFile(c.files.cert, maxSecretSize); err != nil {
		return nil, fmt.Errorf("%s.cert_file: %w", c.files.what, err)
	}
	if err = checkKeyFile(c.files.key); err == nil {
		id.bytes[1], err = readSmallFile(c.files.key, maxSecretSize)
	}
	if err != nil {
		return nil, fmt.Errorf("%s.key_file: %w", c.files.what, err)
	}
	if id.cert, err = tls.X509KeyPair(id.bytes[0], id.bytes[1]); err != nil {
		return fail("cert_file", c.files.cert, fmt.Errorf("with the key in %s: %w", c.files.key, err))
	}
	leaf := id.cert.Leaf
	switch now := c.now(); {
	case now.After(leaf.NotAfter):
		return fail("cert_file", c.files.cert, fmt.Errorf("the certificate has expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339)))
	case now.Before(leaf.NotBefore):
		return fail("cert_file", c.files.cert, fmt.Errorf("the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339)))
	}
	if c.trustDomain != "" {
		if id.peer, err = keymanager.ParsePeer(c.trustDomain, leaf); err != nil {
			return fail("cert_file", c.files.cert, err)
		}
	}
	if c.files.ca == "" {
		return id, nil
	}
	if id.bytes[2], err = readSmallFile(c.files.ca, maxConfigSize); err != nil {
		return nil, fmt.Errorf("%s.ca_file: %w", c.files.what, err)
	}
	id.roots = x509.NewCertPool()
	if !id.roots.AppendCertsFromPEM(id.bytes[2]) {
		return fail("ca_file", c.files.ca, errors.New("holds no certificate in PEM"))
	}
	return id, nil
}

// Run follows the files until ctx ends. What cannot be used leaves what is in
// use as it is, and is said once.
func (c *certificates) Run(ctx context.Context) error {
	return every(ctx, reloadEvery, func() error { c.reload(); return nil })
}

func (c *certificates) reload() {
	id, err := c.read()
	used := c.current.Load()
	switch {
	case err == nil && id.peer != used.peer:
		err = fmt.Errorf("%s.cert_file: %s: the certificate is that of %s, and this process is %s", c.files.what, c.files.cert, id.peer, used.peer)
		fallthrough
	case err != nil:
		if c.said != err.Error() {
			c.log.Error("the new certificate cannot be used; the old one stays", "error", err, "until", used.cert.Leaf.NotAfter)
			c.said = err.Error()
		}
		return
	}
	c.said = ""
	if !slices.EqualFunc(id.bytes[:], used.bytes[:], bytes.Equal) {
		c.current.Store(id)
		c.log.Info("certificate reloaded", "file", c.files.cert, "until", id.cert.Leaf.NotAfter)
	}
}

// peer returns who this process is.
func (c *certificates) peer() keymanager.Peer { return c.current.Load().peer }

// server returns the configuration of a listener that anybody may connect to,
// with a certificate of their own if they have one from the CA given.
func (c *certificates) server(callers *certificates) *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		cfg := base.Clone()
		cfg.GetConfigForClient = nil
		cfg.Certificates = []tls.Certificate{c.current.Load().cert}
		if callers != nil {
			cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, callers.current.Load().roots
		}
		return cfg, nil
	}
	return base
}

// mutual returns the configuration of a listener for processes of ours: all
// must have a certificate of the authorities of the moment. Who of them may do
// what is for the server to decide.
func (c *certificates) mutual() *tls.Config {
	protocols := []string{"h2"}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, ClientAuth: tls.RequireAndVerifyClientCert,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			id := c.current.Load()
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: protocols,
				Certificates: []tls.Certificate{id.cert},
				ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: id.roots,
			}, nil
		},
	}
}
