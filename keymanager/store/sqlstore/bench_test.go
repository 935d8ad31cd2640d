package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
)

// BenchmarkSQLite shows what the statements of the hot paths cost, with ten
// thousand tokens stored.
func BenchmarkSQLite(b *testing.B) {
	s, err := sqlstore.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "tollgate.db"), sqlstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	benchmark(b, s)
}

func benchmark(b *testing.B, s store.Store) {
	ctx := b.Context()
	api := keymanager.API{ID: "api-1", Organization: "acme", Name: "Pets", Version: "1.0.0", Context: "/pets"}
	client := keymanager.Client{ConsumerKey: "key-1", ApplicationID: "app-1", KeyType: keymanager.Production}
	number := 0
	token := func() *keymanager.Token {
		number++
		t := &keymanager.Token{ConsumerKey: "key-1", ApplicationID: "app-1", KeyType: keymanager.Production, User: "user-1",
			UserType: keymanager.UserTypeApplication, Scopes: []keymanager.Scope{"pets:read", "pets:write"},
			IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
		copy(t.ID[:], fmt.Sprintf("%016d", number))
		copy(t.Digest.Sum[:], fmt.Sprintf("%032d", number*7919%10_000_019))
		return t
	}
	var stored []*keymanager.Token
	_, err := s.InTx(ctx, func(s store.Store) error {
		for _, err := range []error{
			s.CreateOrganization(ctx, &keymanager.Organization{ID: "acme"}),
			s.CreateTier(ctx, &keymanager.Tier{Organization: "acme", Name: "Gold"}),
			s.CreateUser(ctx, &keymanager.User{ID: "user-1", Organization: "acme", Name: "alice", UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}),
			s.CreateAPI(ctx, &api),
			s.CreateApplication(ctx, &keymanager.Application{ID: "app-1", Organization: "acme", Name: "Shop", Owner: "user-1", Status: keymanager.ApplicationApproved}),
			s.CreateClient(ctx, &client),
			s.CreateSecret(ctx, &keymanager.ClientSecret{ID: "secret-1", ConsumerKey: "key-1"}),
			s.CreateSubscription(ctx, &keymanager.Subscription{ID: "sub-1", Organization: "acme", Name: "sub-1", ApplicationID: "app-1", APIID: "api-1", Tier: "Gold", State: keymanager.Unblocked}),
		} {
			if err != nil {
				return err
			}
		}
		for range 10_000 {
			t := token()
			stored = append(stored, t)
			if err := s.CreateToken(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]func(ctx context.Context, i int) error{
		"TokenFacts": func(ctx context.Context, i int) error {
			f, _, err := s.TokenFacts(ctx, stored[i%len(stored)].Digest, "api-1")
			if err == nil && f.Grant.Subscription == nil {
				b.Error("no subscription")
			}
			return err
		},
		"TokenFacts of an unknown token": func(ctx context.Context, _ int) error {
			_, _, err := s.TokenFacts(ctx, keymanager.Digest{PepperID: 9}, "api-1")
			return err
		},
		"ClientFacts": func(ctx context.Context, _ int) error { _, err := s.ClientFacts(ctx, "key-1"); return err },
		"CreateToken": func(ctx context.Context, _ int) error { return s.CreateToken(ctx, token()) },
		"RevokeToken": func(ctx context.Context, i int) error {
			_, err := s.RevokeToken(ctx, stored[i%len(stored)].ID, time.Now())
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			ctx, cancel := context.WithTimeout(ctx, time.Hour) // as requests have
			defer cancel()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := c(ctx, i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
