package keymanagertest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ keymanager.Catalog     = (*keymanagertest.KeyManager)(nil)
	_ keymanager.Revocations = (*keymanagertest.KeyManager)(nil)
	_ keymanager.Validator   = (*keymanagertest.KeyManager)(nil)
	_ keymanager.Gateways    = (*keymanagertest.KeyManager)(nil)
)

// TestFakeCanBeBroken checks what a test can do to the fake beyond the
// contract.
func TestFakeCanBeBroken(t *testing.T) {
	k := keymanagertest.New(keymanagertest.Options{}, &keymanager.API{ID: "a"})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := make(chan keymanager.Change)
	ended := make(chan error, 1)
	follow := func() {
		go func() {
			ended <- k.Watch(ctx, keymanager.Position{}, []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error { got <- c; return nil })
		}()
		for c := range got {
			if c.Type == keymanager.SnapshotEnd {
				return
			}
		}
	}
	follow()
	if k.Open(keymanagertest.CatalogStream) != 1 || k.Open(keymanagertest.RevocationsStream) != 0 {
		t.Error("open streams are miscounted")
	}
	k.Mute(true)
	k.Beat()
	pos := k.SetAPI(&keymanager.API{ID: "b"})
	select {
	case c := <-got:
		t.Fatalf("muted, but sent %+v", c)
	default:
	}
	k.Mute(false)
	if c := <-got; c.Type != keymanager.Item || c.API.ID != "b" || c.At != pos || c.API.Position != pos.Seq {
		t.Errorf("got %+v", c)
	}
	if c := <-got; c.Type != keymanager.Heartbeat || c.At != pos || c.After != pos {
		t.Errorf("got %+v, want the heartbeat that was held back", c)
	}
	k.Break()
	if err := <-ended; keymanager.KindOf(err) != keymanager.KindUnavailable {
		t.Errorf("broken stream ended with %v", err)
	}
	away := errors.New("away")
	follow()
	k.Down(away)
	if err := <-ended; !errors.Is(err, away) {
		t.Errorf("stream ended with %v", err)
	}
	if _, err := k.Validate(ctx, keymanager.Query{}); !errors.Is(err, away) {
		t.Errorf("Validate: %v", err)
	}
	if err := k.Report(ctx, keymanager.GatewayState{}); !errors.Is(err, away) {
		t.Errorf("Report: %v", err)
	}
	if k.Opened(keymanagertest.CatalogStream) != 2 {
		t.Error("opened streams are miscounted")
	}
}
