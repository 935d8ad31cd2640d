package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/keymanager/admin"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
)

// firstWorld is a state folder with its database.
type firstWorld struct {
	t     *testing.T
	state *State
	store store.Store
}

func newFirstWorld(t *testing.T) *firstWorld {
	t.Helper()
	state, err := openState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = state.Close() })
	cfg := defaultConfig()
	st, err := openStore(t.Context(), &cfg, state, newLogger(io.Discard, cfg.Log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return &firstWorld{t, state, st}
}

func (w *firstWorld) keys() *Keys {
	w.t.Helper()
	keys, err := loadKeys(KeysConfig{}, w.state, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

// start is a whole first start, and holds that its credential is good.
func (w *firstWorld) start() Credentials {
	w.t.Helper()
	keys := w.keys()
	creds, err := firstStart(context.Background(), w.store, keys, KeysConfig{}, w.state, "http://127.0.0.1:9090", newLogger(io.Discard, LogConfig{}))
	if err != nil {
		w.t.Fatal(err)
	}
	onDisk, err := readCredentials(w.state.Path(fileAdmin))
	if err != nil || onDisk != creds {
		w.t.Errorf("admin.json differs: %v", err)
	}
	facts, err := w.store.ClientFacts(context.Background(), creds.ConsumerKey)
	if err != nil {
		w.t.Fatal(err)
	}
	good := false
	for _, s := range facts.Secrets {
		good = good || keys.Peppers.Match(s.Digest, string(creds.ConsumerSecret))
	}
	if !good || !facts.Application.BuiltIn {
		w.t.Error("the credential is not the built-in application's")
	}
	return creds
}

func TestFirstStartIsTheSameEachTime(t *testing.T) {
	w := newFirstWorld(t)
	first := w.start()
	if again := w.start(); again != first {
		t.Error("another credential at the second start")
	}
	for _, org := range []string{"default", "system"} {
		out, n, err := w.store.Organizations(t.Context(), store.Page{})
		if err != nil || n != 2 || !strings.Contains(string(out[0].ID)+string(out[1].ID), org) {
			t.Errorf("organizations %v, %v", out, err)
		}
	}
}

// A crash after each step that leaves something behind.
func TestFirstStartAfterACrash(t *testing.T) {
	for _, tc := range []struct {
		name  string
		crash func(w *firstWorld, keys *Keys) error
	}{
		{"one key file is written", func(w *firstWorld, keys *Keys) error {
			return createPrivate(keys.fresh[0].path, keys.fresh[0].content)
		}},
		{"both key files are written", func(w *firstWorld, keys *Keys) error { return keys.Save() }},
		{"admin.json is written", func(w *firstWorld, keys *Keys) error {
			if err := keys.Save(); err != nil {
				return err
			}
			_, _, err := adminCredentials(context.Background(), w.state.Path(fileAdmin), "http://127.0.0.1:9090", w.store, token.NewMinter(keys.Tags, rand.Reader))
			return err
		}},
		{"a half-written file is left", func(w *firstWorld, _ *Keys) error {
			return os.WriteFile(w.state.Path(".admin.json.123"), []byte(`{"ser`), 0o600)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newFirstWorld(t)
			if err := tc.crash(w, w.keys()); err != nil {
				t.Fatal(err)
			}
			w.start()
		})
	}
}

func TestFirstStartRefusesLostKeys(t *testing.T) {
	w := newFirstWorld(t)
	first := w.start()
	for _, name := range []string{fileTagKey, filePepperKey} {
		if err := os.Rename(w.state.Path(name), w.state.Path("away")); err != nil {
			t.Fatal(err)
		}
		_, err := firstStart(t.Context(), w.store, w.keys(), KeysConfig{}, w.state, "http://127.0.0.1:9090", newLogger(io.Discard, LogConfig{}))
		if err == nil || !strings.Contains(err.Error(), w.state.Path(name)) || !strings.Contains(err.Error(), "holds credentials") {
			t.Errorf("%s: %v", name, err)
		}
		if there, _ := exists(w.state.Path(name)); there {
			t.Errorf("a new %s was written", name)
		}
		if err := os.Rename(w.state.Path("away"), w.state.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	// A lost credential is replaced, one of another database refused.
	if err := os.Remove(w.state.Path(fileAdmin)); err != nil {
		t.Fatal(err)
	}
	if again := w.start(); again == first || again.ConsumerKey != first.ConsumerKey {
		t.Error("the lost credential was not replaced")
	}
	other := Credentials{Server: "http://127.0.0.1:9090", ConsumerKey: "other", ConsumerSecret: "secret"}
	if err := writePrivateJSON(w.state.Path(fileAdmin), other); err != nil {
		t.Fatal(err)
	}
	_, err := firstStart(t.Context(), w.store, w.keys(), KeysConfig{}, w.state, other.Server, newLogger(io.Discard, LogConfig{}))
	if err == nil || !strings.Contains(err.Error(), "another database") || strings.Contains(err.Error(), "secret\"") {
		t.Errorf("a credential of another database: %v", err)
	}
	if got := admin.DefaultOrganization; got != "default" {
		t.Errorf("default organization %q", got)
	}
}

// A credential that somebody logs or prints by mistake stays secret.
func TestCredentialsStaySecret(t *testing.T) {
	creds := Credentials{Server: "http://127.0.0.1:9090", ConsumerKey: "key", ConsumerSecret: "canary"}
	for _, format := range []string{"text", "json"} {
		var b strings.Builder
		newLogger(&b, LogConfig{Level: "info", Format: format}).Info("by mistake", "credentials", creds, "secret", creds.ConsumerSecret)
		if text := b.String() + fmt.Sprintf("%v %+v %#v %s", creds, creds, creds, creds.ConsumerSecret); strings.Contains(text, "canary") {
			t.Errorf("%s: %s", format, text)
		}
	}
}
