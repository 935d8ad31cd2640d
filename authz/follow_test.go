package authz

import (
	"errors"
	"testing"
	"time"

	"tollgate/keymanager"
)

// TestClockOfTheKeyManagerRevivesNothing: a revoked token is remembered until it
// has expired by both clocks, whichever of them is wrong.
func TestClockOfTheKeyManagerRevivesNothing(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := newRig(t, func(o *Options) { o.Now = func() time.Time { return now } }).server
	token := keymanager.TokenID{7}
	at := keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 5}
	heartbeat := func(keyManager time.Time) keymanager.Event {
		return keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Heartbeat, At: at, After: at}, Now: keyManager}
	}
	apply := func(e keymanager.Event) {
		t.Helper()
		var late *silenceError // the clock here leaps
		if err := s.revocation(e); err != nil && !errors.As(err, &late) {
			t.Fatal(err)
		}
	}
	apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.SnapshotBegin, At: at, After: at}})
	apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Item, At: at, After: at},
		Dead: &keymanager.Dead{TokenID: token, ExpiresAt: now.Add(time.Hour)}})
	apply(keymanager.Event{Mark: keymanager.Mark{Type: keymanager.SnapshotEnd, At: at, After: at}})
	remembered := func() bool { n, _ := s.revoked.Len(); return n == 1 }

	apply(heartbeat(now.Add(24 * time.Hour)))
	if !remembered() {
		t.Error("forgotten because the key manager's clock is ahead")
	}
	began := now
	now = began.Add(24 * time.Hour)
	apply(heartbeat(began))
	if !remembered() {
		t.Error("forgotten because the clock here is ahead")
	}
	apply(heartbeat(now))
	if remembered() {
		t.Error("remembered though it has expired by both clocks")
	}
}
