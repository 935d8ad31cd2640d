package keymanagertest_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/keymanagertest/inprocess"
)

// TestFake runs the contract over the fake: it behaves.
func TestFake(t *testing.T) {
	keymanagertest.Run(t, func(t *testing.T) *keymanagertest.Subject {
		k := keymanagertest.New(keymanagertest.Options{Heartbeat: 20 * time.Millisecond})
		for _, tier := range keymanager.DefaultTiers(keymanagertest.Organization) {
			k.SetTier(&tier)
		}
		return &keymanagertest.Subject{Catalog: k, Revocations: k, Validator: k, Gateways: k, World: &fakeWorld{KeyManager: k}, Now: time.Now}
	})
}

// fakeWorld is the World of the fake.
type fakeWorld struct {
	*keymanagertest.KeyManager
	serial byte
}

func (w *fakeWorld) PutAPI(_ testing.TB, a *keymanager.API) keymanager.Position { return w.SetAPI(a) }
func (w *fakeWorld) DeleteAPI(_ testing.TB, id keymanager.APIID) keymanager.Position {
	return w.RemoveAPI(id)
}
func (w *fakeWorld) PutTier(_ testing.TB, v *keymanager.Tier) keymanager.Position {
	return w.SetTier(v)
}
func (w *fakeWorld) DeleteTier(_ testing.TB, ref keymanager.TierRef) keymanager.Position {
	return w.RemoveTier(ref)
}
func (w *fakeWorld) Kill(_ testing.TB, d keymanager.Dead) keymanager.Position {
	return w.KeyManager.Kill(d)
}
func (w *fakeWorld) Stale(_ testing.TB, s keymanager.Stale) keymanager.Position {
	return w.KeyManager.Stale(s)
}
func (w *fakeWorld) PruneAll(testing.TB)                         { w.Prune() }
func (w *fakeWorld) NewEpoch(testing.TB)                         { w.KeyManager.NewEpoch() }
func (w *fakeWorld) Head(testing.TB) keymanager.Position         { return w.KeyManager.Head() }
func (w *fakeWorld) States(testing.TB) []keymanager.GatewayState { return w.KeyManager.States() }

func (w *fakeWorld) Issue(_ testing.TB, f keymanagertest.Facts) keymanager.Credential {
	w.serial++
	now := time.Now()
	v := keymanagertest.ActiveVerdict(w.serial, now.Add(-time.Minute))
	v.Kind, v.Grant.KeyType, v.Grant.Scopes, v.Grant.Referers = f.Kind, f.KeyType, f.Scopes, f.Referers
	for _, n := range f.Networks {
		v.Grant.Networks = append(v.Grant.Networks, netip.MustParsePrefix(n))
	}
	standing := keymanager.Standing{Principal: keymanager.Principal{Application: keymanager.ApplicationApproved, Owner: keymanager.UserActive, User: keymanager.UserActive}}
	if f.Application != "" {
		standing.Application = f.Application
	}
	if f.Owner != "" {
		standing.Owner = f.Owner
	}
	if f.Expired {
		standing.ExpiresAt = now
	}
	if f.Revoked {
		standing.RevokedAt = now
	}
	v.Reason = standing.Reason(now)
	if f.NeverExpires {
		v.ExpiresAt = time.Time{}
	}
	if f.State != "" {
		v.Grant.Subscription.State = f.State
	}
	c := keymanager.Credential{Kind: f.Kind, Value: fmt.Sprint("credential-", w.serial)}
	subscribed := *v
	if f.API != "" {
		w.SetVerdict(c, f.API, &subscribed)
	}
	grant := *v.Grant
	grant.Subscription = nil
	v.Grant = &grant
	w.SetVerdict(c, "", v)
	return c
}

// TestInProcess runs the contract over the real services and SQLite.
func TestInProcess(t *testing.T) {
	keymanagertest.Run(t, func(t *testing.T) *keymanagertest.Subject { return inprocess.OnSQLite(t) })
}
