package storetest

import (
	"errors"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testAudit(t *testing.T, s store.Store) {
	ctx := t.Context()
	entries := []store.AuditEntry{
		{At: t0, Actor: "key-1", Organization: "acme", Action: "create", Kind: "API", Name: "Pets 1.0.0", After: []byte(`{"b": 1, "a": "é"}`)},
		{At: t0, Actor: "key-1", Organization: "acme", Action: "update", Kind: "API", Name: "Pets 1.0.0", Before: []byte(`{}`), After: []byte(`{"x": 2}`)},
		{At: t0, Actor: "key-2", Organization: "other", Action: "delete", Kind: "API", Name: "Pets 1.0.0", Before: []byte(`{}`)},
	}
	for i := range entries {
		wantEvents(t, s, "add", func() error { return s.AddAudit(ctx, &entries[i]) })
		if entries[i].ID == 0 || i > 0 && entries[i].ID <= entries[i-1].ID {
			t.Errorf("entry %d has id %d", i, entries[i].ID)
		}
	}
	newest := func(org keymanager.OrganizationID, p store.Page, wantTotal int, want ...store.AuditEntry) {
		t.Helper()
		page, total, err := s.AuditEntries(ctx, org, p)
		must(t, err)
		if total != wantTotal {
			t.Errorf("organization %q: %d entries, want %d", org, total, wantTotal)
		}
		wantSame(t, "entries", page, want)
	}
	newest("acme", store.Page{}, 2, entries[1], entries[0])
	newest("acme", store.Page{Offset: 1, Limit: 1}, 2, entries[0])
	newest("", store.Page{Limit: 2}, 3, entries[2], entries[1])

	stamped := store.AuditEntry{Actor: "key-1", Action: "create", Kind: "User", Name: "bob"}
	must(t, s.AddAudit(ctx, &stamped))
	if stamped.At.IsZero() {
		t.Error("an entry without a time got none")
	}
	// Together with what it tells of, or not at all.
	failing := errors.New("no")
	_, err := s.InTx(ctx, func(tx store.Store) error {
		return errors.Join(tx.AddAudit(ctx, &store.AuditEntry{At: t0, Action: "create"}), failing)
	})
	if !errors.Is(err, failing) {
		t.Errorf("error %v", err)
	}
	_, total, err := s.AuditEntries(ctx, "", store.Page{})
	must(t, err)
	if total != 4 {
		t.Errorf("%d entries, want 4", total)
	}
}

// testUnstorableText checks that texts from outside which a database may not
// take are just not found.
func testUnstorableText(t *testing.T, s store.Store) {
	ctx := t.Context()
	for _, text := range []string{"a\x00b", "\xff\xfe", string(make([]byte, 1<<16))} {
		for what, err := range map[string]error{
			"organization":         second(s.Organization(ctx, keymanager.OrganizationID(text))),
			"user":                 second(s.User(ctx, keymanager.UserID(text))),
			"user by name":         second(s.UserByName(ctx, "o", text, text)),
			"tier":                 second(s.Tier(ctx, "o", keymanager.TierName(text))),
			"API":                  second(s.API(ctx, keymanager.APIID(text))),
			"API by name":          second(s.APIByName(ctx, "o", text, text)),
			"application":          second(s.Application(ctx, keymanager.ApplicationID(text))),
			"application by name":  second(s.ApplicationByName(ctx, "o", text)),
			"client":               second(s.ClientFacts(ctx, keymanager.ConsumerKey(text))),
			"subscription":         second(s.Subscription(ctx, keymanager.SubscriptionID(text))),
			"subscription by name": second(s.SubscriptionByName(ctx, "o", text)),
		} {
			wantKind(t, what, err, keymanager.KindNotFound)
		}
		if f, _, err := s.TokenFacts(ctx, digest(), keymanager.APIID(text)); f != nil || err != nil {
			t.Errorf("facts: %+v, %v", f, err)
		}
		if f, _, err := s.APIKeyFacts(ctx, digest(), keymanager.APIID(text)); f != nil || err != nil {
			t.Errorf("API key facts: %+v, %v", f, err)
		}
	}
}
