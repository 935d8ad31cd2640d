//go:build !short

package validator_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
	"tollgate/keymanager/validator"
)

// TestFaultFacts puts random content into the rows that verdicts are made of.
func TestFaultFacts(t *testing.T) {
	t.Run("F40 applications, users, keys and subscriptions that no program has written", faultFacts)
}

func faultFacts(t *testing.T) {
	ctx := t.Context()
	r := newRig(t) // for its keys
	dsn := storetest.Postgres(t)
	db, err := sqlstore.OpenPostgres(ctx, dsn, sqlstore.Options{})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(err)
	t.Cleanup(func() { ok(db.Close()) })
	v, err := validator.New(validator.Options{Store: db, Tags: r.tags, Peppers: r.peppers, Now: func() time.Time { return now }})
	ok(err)
	raw, err := pgx.Connect(ctx, dsn)
	ok(err)
	defer raw.Close(ctx)

	ok(db.CreateOrganization(ctx, &keymanager.Organization{ID: "acme"}))
	const rows = 125 // of each of four tables
	keys := make([]string, rows)
	for i := range keys {
		id := fmt.Sprint("n", i)
		ok(db.CreateUser(ctx, &keymanager.User{ID: keymanager.UserID(id), Organization: "acme", Name: id, UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}))
		ok(db.CreateApplication(ctx, &keymanager.Application{ID: keymanager.ApplicationID(id), Organization: "acme", Name: id, Owner: keymanager.UserID(id),
			TokenType: keymanager.OpaqueToken, Status: keymanager.ApplicationApproved}))
		keys[i], err = r.minter.APIKey()
		ok(err)
		ok(db.CreateAPIKey(ctx, &keymanager.APIKey{ID: keymanager.TokenID{1, byte(i)}, ApplicationID: keymanager.ApplicationID(id), Name: "k",
			KeyType: keymanager.Production, Digest: r.peppers.Digest(keys[i]), CreatedAt: now}))
	}
	random := rand.New(rand.NewPCG(5, 6))
	texts := []string{"", "approved", "ACTIVE ", "\u0000x"[1:], "√", fmt.Sprintf("%065536d", 0)}
	documents := []string{`null`, `7`, `"x"`, `[]`, `{}`, `[7]`, `["not a network"]`, `[null]`, `{"a": 1}`, `{"a": {"b": []}}`, `["10.0.0.0/99"]`}
	for i := range keys {
		if i%5 == 0 {
			continue // as it was
		}
		id := fmt.Sprint("n", i)
		text, document := texts[random.IntN(len(texts))], documents[random.IntN(len(documents))]
		query := []string{
			`UPDATE application SET status = $2 WHERE id = $1`,
			`UPDATE users SET status = $2 WHERE id = $1`,
			`UPDATE application SET attributes = $2 WHERE id = $1`,
			`UPDATE api_key SET networks = $2 WHERE application_id = $1`,
		}[i%4]
		value := text
		if i%4 >= 2 {
			value = document
		}
		_, err := raw.Exec(ctx, query, id, value)
		ok(err)
	}
	failed := 0
	for i, key := range keys {
		got, err := v.Validate(ctx, keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.APIKeyCredential, Value: key}, API: "pets"})
		switch {
		case err != nil:
			if failed++; i%5 == 0 || i%4 < 2 {
				t.Errorf("row %d: %v", i, err)
			}
		case i%5 == 0 && got.Reason != keymanager.ReasonActive:
			t.Errorf("row %d, which is good: %+v", i, got)
		case i%5 != 0 && i%4 < 2 && got.Reason == keymanager.ReasonActive:
			t.Errorf("row %d has a status that nobody knows, and is active", i)
		}
	}
	if failed == 0 {
		t.Error("nothing was unreadable: this tests nothing")
	}

	// Subscriptions: a state that nobody knows is told as it is, and authz takes
	// it for an inactive one; a credential without one has none.
	for _, tier := range []keymanager.TierName{"Gold", "Silver"} {
		ok(db.CreateTier(ctx, &keymanager.Tier{Organization: "acme", Name: tier}))
	}
	pets := keymanagertest.SampleAPI("pets")
	pets.Organization = "acme"
	ok(db.CreateAPI(ctx, pets))
	for i, state := range append([]string{string(keymanager.Unblocked)}, texts...) {
		id := keymanager.ApplicationID(fmt.Sprint("n", 5*i)) // of those that are as they were
		ok(db.CreateSubscription(ctx, &keymanager.Subscription{ID: keymanager.SubscriptionID(id), Organization: "acme", Name: string(id),
			ApplicationID: id, APIID: "pets", Tier: "Gold", State: keymanager.Unblocked}))
		_, err := raw.Exec(ctx, `UPDATE subscription SET state = $2 WHERE id = $1`, id, state)
		ok(err)
		got, err := v.Validate(ctx, keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.APIKeyCredential, Value: keys[5*i]}, API: "pets"})
		if err == nil && (got.Grant.Subscription == nil || string(got.Grant.Subscription.State) != state) {
			t.Errorf("state %.20q: %+v", state, got.Grant.Subscription)
		}
		if err != nil && i == 0 {
			t.Error(err)
		}
	}
}
