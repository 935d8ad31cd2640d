package xds

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"tollgate/keymanager"
)

// maxPEM bounds what is read of a certificate, in bytes.
const maxPEM = 1 << 20

// anyOrganization stands for every organization in Certificate.Organizations.
const anyOrganization = "*"

// Check says why Envoy could not use the certificate at the time now; nil = it
// can. The error never shows anything of a key.
func (c Certificate) Check(now time.Time) error {
	_, err := c.load(now)
	return err
}

// loaded is a certificate that can be used: in one spelling, so that every
// replica sends the same bytes.
type loaded struct {
	chain, key  []byte // PEM; empty = no key pair
	authorities []byte // PEM; empty = none
	expires     time.Time
	users       []keymanager.OrganizationID
}

func (c Certificate) load(now time.Time) (*loaded, error) {
	out := &loaded{users: c.Organizations}
	if len(c.CertPEM)+len(c.KeyPEM)+len(c.CAPEM) > maxPEM {
		return nil, fmt.Errorf("more than %d bytes", maxPEM)
	}
	if len(c.CertPEM) == 0 && len(c.KeyPEM) == 0 && len(c.CAPEM) == 0 {
		return nil, fmt.Errorf("neither a key pair nor authorities")
	}
	if len(c.CertPEM) > 0 || len(c.KeyPEM) > 0 {
		if err := out.pair(c, now); err != nil {
			return nil, err
		}
	}
	if len(c.CAPEM) > 0 {
		list, err := readCertificates(c.CAPEM)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		var last time.Time
		for _, a := range list {
			if a.NotAfter.After(last) {
				last = a.NotAfter
			}
			out.authorities = append(out.authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw})...)
		}
		if !last.After(now) {
			return nil, fmt.Errorf("authorities: the last one expired on %s", last.Format(time.DateOnly))
		}
		if out.expires.IsZero() || last.Before(out.expires) {
			out.expires = last
		}
	}
	return out, nil
}

// pair reads a key pair as strictly as Envoy, and more: Envoy takes a
// certificate that has expired.
func (l *loaded) pair(c Certificate, now time.Time) error {
	if len(c.CertPEM) == 0 || len(c.KeyPEM) == 0 {
		return fmt.Errorf("a certificate and its private key go together")
	}
	chain, err := readCertificates(c.CertPEM)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	if err != nil {
		return errors.New("the private key is not of the certificate, or cannot be read")
	}
	leaf := chain[0]
	switch pub := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return fmt.Errorf("an RSA key of %d bits, want at least 2048", pub.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() && pub.Curve != elliptic.P521() {
			return fmt.Errorf("a key on curve %s, want P-256, P-384 or P-521", pub.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("a key of type %s, which Envoy does not take: want ECDSA or RSA", leaf.PublicKeyAlgorithm)
	}
	switch {
	case !now.Before(leaf.NotAfter):
		return fmt.Errorf("the certificate expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	l.expires = leaf.NotAfter
	for _, x := range chain {
		l.chain = append(l.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return errors.New("the private key cannot be read")
	}
	l.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return nil
}

// readCertificates reads PEM that holds certificates and nothing else.
func readCertificates(text []byte) (out []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of another type than CERTIFICATE")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("no PEM block CERTIFICATE")
	case bytes.Contains(text, []byte("-----BEGIN")):
		return nil, fmt.Errorf("a PEM block that is cut off")
	}
	return out, nil
}

// certificates are all that are configured: the last good content of each, and
// what is wrong with the newest. It is never changed.
type certificates struct {
	good     map[string]*loaded
	problems map[string]problem
}

// problem is why the newest content of a certificate is not in use.
type problem struct {
	reason string
	since  time.Time
}

// newCertificates reads the certificates; one that cannot be used leaves what
// before has of that name.
func newCertificates(before *certificates, list map[string]Certificate, now time.Time) *certificates {
	out := &certificates{good: map[string]*loaded{}, problems: map[string]problem{}}
	for name, c := range list {
		l, err := c.load(now)
		if err == nil {
			out.good[name] = l
			continue
		}
		out.problems[name] = problem{err.Error(), now}
		if before == nil {
			continue
		}
		if old := before.problems[name]; old.reason == err.Error() {
			out.problems[name] = old
		}
		if last := before.good[name]; last != nil {
			kept := *last
			kept.users = c.Organizations // who may use it holds at once
			out.good[name] = &kept
		}
	}
	return out
}

// err joins the problems; nil = none.
func (c *certificates) err() error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(c.problems)) {
		all = append(all, fmt.Errorf("xds: certificate %q: %s", name, c.problems[name].reason))
	}
	return errors.Join(all...)
}

// log says what is wrong and was not so before (nil = all), and shows when each
// expires.
func (c *certificates) log(before *certificates, logger *slog.Logger, m *metrics) {
	for _, name := range slices.Sorted(maps.Keys(c.problems)) {
		if before != nil && before.problems[name] == c.problems[name] {
			continue
		}
		logger.Error("certificate not taken; what was good before is used on", "certificate", name,
			"there_is_one", c.good[name] != nil, "reason", c.problems[name].reason)
	}
	m.certificates(c)
}

// backend says why an organization's API may not use what it names; nil = it
// may. That a certificate is there is not told to who may not use it.
func (c *certificates) backend(ts trusts) error {
	for _, tr := range ts {
		if err := c.usable(tr); err != nil {
			return err
		}
	}
	return nil
}

func (c *certificates) usable(tr trust) error {
	for _, use := range []struct {
		name, what string
		has        func(*loaded) bool
	}{
		{tr.ca, "authorities", func(l *loaded) bool { return len(l.authorities) > 0 }},
		{tr.client, "key pair", func(l *loaded) bool { return len(l.key) > 0 }},
	} {
		if use.name == "" {
			continue
		}
		l := c.good[use.name]
		if l == nil || !slices.Contains(l.users, tr.org) && !slices.Contains(l.users, anyOrganization) {
			return fmt.Errorf("certificate %q: there is none of that name that organization %q may use", use.name, tr.org)
		}
		if !use.has(l) {
			return fmt.Errorf("certificate %q has no %s", use.name, use.what)
		}
	}
	return nil
}

// validName: letters, digits, "-" and "_". No dot: statistics take names apart
// there.
func validName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= 100
}

// SetCertificates replaces the certificates. What has changed goes to the Envoys
// that use it, without a drain: handshakes from then on see it. One that cannot
// be used (expired, a key of another certificate, unreadable) is not sent: what
// was good before stays, the error names it, and so does the report until it is
// mended. What listeners use of a name that is left out stays until they change.
//
// An API that names a certificate which is left out, or which its organization
// may no longer use, loses its routes and is reported, until it names another or
// the right is given back: in its place anything would be a wrong guess, and to
// go on would let it use what was taken away.
func (s *Server) SetCertificates(list map[string]Certificate) error {
	for name := range list {
		if !validName(name) {
			return fmt.Errorf("xds: certificate %q: want letters, digits, \"-\" and \"_\"", name)
		}
	}
	s.mu.Lock()
	before := s.certs
	next := newCertificates(before, list, s.opts.Now())
	s.certs = next
	// With the lock held: two calls reach the groups in their order.
	for _, g := range s.groups {
		g.submit(delivery{certs: next})
	}
	s.mu.Unlock()
	next.log(before, s.opts.Logger, s.metrics)
	return next.err()
}
