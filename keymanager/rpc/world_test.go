package rpc_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/token"
	"tollgate/keymanager/validator"
)

// world is a key manager over SQLite, in this process.
func world(t *testing.T) *keymanagertest.Subject {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "tollgate.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	tags := parsed(t, token.NewTagKeys, token.ParseTagKeys)
	peppers := parsed(t, token.NewPeppers, token.ParsePeppers)
	minter := token.NewMinter(tags, rand.Reader)
	v, err := validator.New(validator.Options{Store: s, Tags: tags, Peppers: peppers, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	gateways, err := publish.NewGateways(publish.GatewaysOptions{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	service, err := publish.New(publish.Options{Store: s, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Heartbeat: 20 * time.Millisecond, Keep: 8})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	w := &keymanagertest.StoreWorld{
		Store: s, Now: time.Now, Reported: gateways.States,
		Restart: func(t testing.TB) {
			if _, err := s.NewEpoch(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		Mint: func(t testing.TB, kind keymanager.CredentialKind) (string, keymanager.Digest) {
			mint := minter.AccessToken
			if kind == keymanager.APIKeyCredential {
				mint = minter.APIKey
			}
			value, err := mint()
			if err != nil {
				t.Fatal(err)
			}
			return value, peppers.Digest(value)
		},
	}
	w.Setup(t)
	return &keymanagertest.Subject{Catalog: service, Revocations: service, Validator: v, Gateways: gateways, World: w, Now: time.Now}
}

// parsed makes the content of a key file, and reads it.
func parsed[T any](t testing.TB, fresh func(io.Reader) ([]byte, error), parse func([]byte) (T, error)) T {
	t.Helper()
	content, err := fresh(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v, err := parse(content)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// socket returns the path for a Unix socket, which must be short.
func socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "km.sock")
}
