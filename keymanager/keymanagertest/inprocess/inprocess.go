// Package inprocess is a whole key manager in the process of a test: the real
// services over a store, as a keymanagertest.Subject.
package inprocess

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/token/tokentest"
	"tollgate/keymanager/validator"
)

// OnSQLite starts a key manager over a database of its own. It ends with the
// test.
func OnSQLite(t testing.TB) *keymanagertest.Subject {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "tollgate.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return On(t, s)
}

// On starts a key manager over a store, which is empty. Both end with the test.
func On(t testing.TB, s *sqlstore.Store) *keymanagertest.Subject {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	keys := tokentest.New(t)
	v, err := validator.New(validator.Options{Store: s, Tags: keys.Tags, Peppers: keys.Peppers, Now: time.Now})
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
			mint := keys.Minter.AccessToken
			if kind == keymanager.APIKeyCredential {
				mint = keys.Minter.APIKey
			}
			value, err := mint()
			if err != nil {
				t.Fatal(err)
			}
			return value, keys.Peppers.Digest(value)
		},
	}
	w.Setup(t)
	return &keymanagertest.Subject{Catalog: service, Revocations: service, Validator: v, Gateways: gateways, World: w, Now: time.Now}
}
