package keymanagertest

import (
	"cmp"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// StoreWorld is a World over a store.
type StoreWorld struct {
	Store store.Store
	Now   func() time.Time
	// Mint makes a credential and its digest.
	Mint func(t testing.TB, kind keymanager.CredentialKind) (value string, d keymanager.Digest)
	// Restart starts a new epoch.
	Restart func(t testing.TB)
	// Reported returns what gateways have reported.
	Reported func() []keymanager.GatewayState

	serial atomic.Int64
}

var _ World = (*StoreWorld)(nil)

// Setup writes what Run expects: Organization and the default tiers.
func (w *StoreWorld) Setup(t testing.TB) {
	w.write(t, func(s store.Store) error {
		if err := s.CreateOrganization(t.Context(), &keymanager.Organization{ID: Organization}); err != nil {
			return err
		}
		for _, tier := range keymanager.DefaultTiers(Organization) {
			if err := s.CreateTier(t.Context(), &tier); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *StoreWorld) write(t testing.TB, fn func(store.Store) error) keymanager.Position {
	t.Helper()
	pos, err := w.Store.InTx(t.Context(), fn)
	if err != nil {
		t.Errorf("the store: %v", err) // also from goroutines
	}
	return pos
}

// PutAPI implements World.
func (w *StoreWorld) PutAPI(t testing.TB, a *keymanager.API) keymanager.Position {
	t.Helper()
	return w.write(t, func(s store.Store) error {
		c := *a
		_, err := s.API(t.Context(), a.ID)
		if keymanager.IsNotFound(err) {
			return s.CreateAPI(t.Context(), &c)
		}
		if err != nil {
			return err
		}
		c.Revision = 0
		return s.UpdateAPI(t.Context(), &c)
	})
}

// DeleteAPI implements World.
func (w *StoreWorld) DeleteAPI(t testing.TB, id keymanager.APIID) keymanager.Position {
	t.Helper()
	return w.write(t, func(s store.Store) error { return s.DeleteAPI(t.Context(), id) })
}

// PutTier implements World.
func (w *StoreWorld) PutTier(t testing.TB, v *keymanager.Tier) keymanager.Position {
	t.Helper()
	return w.write(t, func(s store.Store) error {
		c := *v
		_, err := s.Tier(t.Context(), v.Organization, v.Name)
		if keymanager.IsNotFound(err) {
			return s.CreateTier(t.Context(), &c)
		}
		if err != nil {
			return err
		}
		return s.UpdateTier(t.Context(), &c)
	})
}

// DeleteTier implements World.
func (w *StoreWorld) DeleteTier(t testing.TB, ref keymanager.TierRef) keymanager.Position {
	t.Helper()
	return w.write(t, func(s store.Store) error { return s.DeleteTier(t.Context(), ref.Organization, ref.Name) })
}

// Kill implements World.
func (w *StoreWorld) Kill(t testing.TB, d keymanager.Dead) keymanager.Position {
	t.Helper()
	return w.write(t, func(s store.Store) error { return s.Append(t.Context(), store.LogEvent{Dead: &d}) })
}

// Stale implements World.
func (w *StoreWorld) Stale(t testing.TB, v keymanager.Stale) keymanager.Position {
	t.Helper()
	return w.write(t, func(s store.Store) error { return s.Append(t.Context(), store.LogEvent{Stale: &v}) })
}

// PruneAll implements World.
func (w *StoreWorld) PruneAll(t testing.TB) {
	t.Helper()
	if err := w.Store.Prune(t.Context(), w.Head(t).Seq, w.Now()); err != nil {
		t.Fatal(err)
	}
}

// NewEpoch implements World.
func (w *StoreWorld) NewEpoch(t testing.TB) { w.Restart(t) }

// Head implements World.
func (w *StoreWorld) Head(t testing.TB) keymanager.Position {
	t.Helper()
	head, err := w.Store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// States implements World.
func (w *StoreWorld) States(testing.TB) []keymanager.GatewayState { return w.Reported() }

// Issue implements World. Each credential has an application and an owner of
// its own.
func (w *StoreWorld) Issue(t testing.TB, f Facts) keymanager.Credential {
	t.Helper()
	n := w.serial.Add(1)
	name := fmt.Sprint("issue-", n)
	now := w.Now().Truncate(time.Second)
	value, digest := w.Mint(t, f.Kind)
	id := keymanager.TokenID{0xff, byte(n >> 8), byte(n)}
	expires := now.Add(time.Hour)
	if f.Expired {
		expires = now.Add(-time.Second)
	}
	w.write(t, func(s store.Store) error {
		ctx := t.Context()
		user := keymanager.User{ID: keymanager.UserID(name), Organization: Organization, Name: name, UserStore: keymanager.PrimaryUserStore,
			Status: cmp.Or(f.Owner, keymanager.UserActive)}
		if err := s.CreateUser(ctx, &user); err != nil {
			return err
		}
		app := keymanager.Application{ID: keymanager.ApplicationID(name), Organization: Organization, Name: name, Owner: user.ID, Tier: "Gold",
			TokenType: keymanager.OpaqueToken, Status: cmp.Or(f.Application, keymanager.ApplicationApproved)}
		if err := s.CreateApplication(ctx, &app); err != nil {
			return err
		}
		if f.API != "" {
			err := s.CreateSubscription(ctx, &keymanager.Subscription{ID: keymanager.SubscriptionID(name), Organization: Organization, Name: name,
				ApplicationID: app.ID, APIID: f.API, Tier: "Silver", State: f.state()})
			if err != nil {
				return err
			}
		}
		if f.Kind == keymanager.APIKeyCredential {
			key := keymanager.APIKey{ID: id, ApplicationID: app.ID, Name: name, KeyType: f.KeyType, Digest: digest,
				Networks: mustPrefixes(f.Networks), Referers: f.Referers, CreatedAt: now.Add(-time.Minute), ExpiresAt: expires}
			if f.NeverExpires {
				key.ExpiresAt = time.Time{}
			}
			if err := s.CreateAPIKey(ctx, &key); err != nil || !f.Revoked {
				return err
			}
			return s.RevokeAPIKey(ctx, id, now)
		}
		client := keymanager.Client{ConsumerKey: keymanager.ConsumerKey(name), ApplicationID: app.ID, KeyType: f.KeyType,
			GrantTypes: []string{keymanager.GrantClientCredentials}, CreatedAt: now}
		if err := s.CreateClient(ctx, &client); err != nil {
			return err
		}
		err := s.CreateToken(ctx, &keymanager.Token{ID: id, Digest: digest, ConsumerKey: client.ConsumerKey, ApplicationID: app.ID, KeyType: f.KeyType,
			User: user.ID, UserType: keymanager.UserTypeApplication, Scopes: f.Scopes, IssuedAt: now.Add(-time.Minute), ExpiresAt: expires})
		if err != nil || !f.Revoked {
			return err
		}
		_, err = s.RevokeToken(ctx, id, now)
		return err
	})
	return keymanager.Credential{Kind: f.Kind, Value: value}
}

// mustPrefixes parses networks that a test wrote.
func mustPrefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range list {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}
