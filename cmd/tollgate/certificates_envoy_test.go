package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager/peertest"
	"tollgate/xds"
)

// Files of certificates for Envoys are followed: one that cannot be read leaves
// what it held in use, is said once, and holds up no other.
func TestGatewayCertificatesFollowTheirFiles(t *testing.T) {
	ca := peertest.CA(t)
	first, second := ca.Server("gateway/default/a"), ca.Server("gateway/default/b")
	cfg, folders := map[string]CertificateConfig{}, map[string]certFolder{}
	for _, name := range []string{"edge", "bank"} {
		f := newCertFolder(t, first, ca)
		files := f.config()
		folders[name], cfg[name] = f, CertificateConfig{CertFile: files.CertFile, KeyFile: files.KeyFile, CAFile: files.CAFile}
	}
	var log bytes.Buffer
	g, err := readGatewayCertificates(cfg, newLogger(&log, LogConfig{Level: "info"}))
	if err != nil {
		t.Fatal(err)
	}
	var refusal error
	sets, given := 0, g.list
	reload := func() {
		g.reload(func(list map[string]xds.Certificate) error { sets, given = sets+1, list; return refusal })
	}
	holds := func(name string, i *peertest.Identity) bool { return bytes.Equal(given[name].CertPEM, i.PEM) }

	if reload(); sets != 0 {
		t.Error("what has not changed was given again")
	}
	if err := os.Remove(filepath.Join(folders["bank"].dir, "..data")); err != nil {
		t.Fatal(err)
	}
	folders["edge"].put(second.PEM, second.KeyPEM, ca.PEM)
	reload()
	reload()
	if sets != 1 || !holds("edge", second) || !holds("bank", first) || strings.Count(log.String(), "the old one stays") != 1 {
		t.Errorf("with the files of one removed: given %d times; %s", sets, log.String())
	}
	folders["bank"].put(second.PEM, second.KeyPEM, ca.PEM)
	if err := os.Chmod(cfg["bank"].KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if reload(); sets != 1 || !strings.Contains(log.String(), "chmod 640") {
		t.Errorf("with a key that all can read: given %d times; %s", sets, log.String())
	}
	if err := os.Chmod(cfg["bank"].KeyFile, 0o600); err != nil {
		t.Fatal(err)
	}
	refusal = errors.New("bank has expired")
	if reload(); sets != 2 || !holds("bank", second) || !strings.Contains(log.String(), "bank has expired") {
		t.Errorf("with one that xds refuses: given %d times; %s", sets, log.String())
	}
	refusal = nil
	early := ca.Issue(peertest.Leaf{Peer: "gateway/default/a", NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)})
	folders["bank"].put(early.PEM, early.KeyPEM, ca.PEM)
	if reload(); sets != 2 || !strings.Contains(log.String(), "not valid before") {
		t.Errorf("with one that is not valid yet: given %d times; %s", sets, log.String())
	}
	later := func() time.Time { return time.Now().Add(90 * time.Minute) }
	g.now = later
	if reload(); sets != 3 || !holds("bank", early) {
		t.Errorf("when it is valid: given %d times; %s", sets, log.String())
	}
	folders["bank"].put(first.PEM, first.KeyPEM, ca.PEM)
	if reload(); sets != 4 || !holds("bank", first) || !strings.Contains(log.String(), "certificates for Envoys reloaded") {
		t.Errorf("mended: given %d times; %s", sets, log.String())
	}

	// So it is with one that is there from the start.
	folders["edge"].put(early.PEM, early.KeyPEM, ca.PEM)
	if g, err = readGatewayCertificates(cfg, newLogger(&log, LogConfig{Level: "info"})); err != nil {
		t.Fatal(err)
	}
	if reload(); sets != 4 {
		t.Error("one that is not valid yet was given again")
	}
	g.now = later
	reload()
	reload()
	if sets != 5 || !holds("edge", early) {
		t.Errorf("from the start, when it is valid: given %d times; %s", sets, log.String())
	}
}
