package storetest

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testAPIKeys(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	k := newAPIKey(w.Application.ID, "ci")
	wantEvents(t, s, "create", func() error { return s.CreateAPIKey(ctx, &k) })
	wantSame(t, "read", get(s.APIKey(ctx, k.ID))(t), &k)
	bare := keymanager.APIKey{ID: tokenID(), ApplicationID: w.Application.ID, Name: "bare", KeyType: keymanager.Production, Digest: digest()}
	must(t, s.CreateAPIKey(ctx, &bare))
	wantSame(t, "a key without restrictions", get(s.APIKey(ctx, bare.ID))(t), &bare)

	same := newAPIKey(w.Application.ID, "ci")
	wantFails(t, s, "same name", keymanager.KindConflict, func() error { return s.CreateAPIKey(ctx, &same) })
	same.Name, same.Digest = "other", k.Digest
	wantFails(t, s, "same digest", keymanager.KindConflict, func() error { return s.CreateAPIKey(ctx, &same) })

	at := t0.Add(time.Minute)
	wantEvents(t, s, "revoke", func() error { return s.RevokeAPIKey(ctx, k.ID, at) },
		store.LogEvent{Dead: &keymanager.Dead{TokenID: k.ID, ExpiresAt: k.ExpiresAt}})
	k.RevokedAt = at
	wantSame(t, "revoked", get(s.APIKey(ctx, k.ID))(t), &k)
	wantEvents(t, s, "revoke again", func() error { return s.RevokeAPIKey(ctx, k.ID, at.Add(time.Hour)) })
	wantSame(t, "revoked twice", get(s.APIKey(ctx, k.ID))(t), &k)
	wantEvents(t, s, "revoke one that never expires", func() error { return s.RevokeAPIKey(ctx, bare.ID, at) },
		store.LogEvent{Dead: &keymanager.Dead{TokenID: bare.ID}})
	wantFails(t, s, "revoke a missing one", keymanager.KindNotFound, func() error { return s.RevokeAPIKey(ctx, tokenID(), at) })

	page, total, err := s.APIKeys(ctx, w.Application.ID, store.Page{Limit: 1, Offset: 1})
	must(t, err)
	if total != 2 || len(page) != 1 || page[0].Name != "ci" {
		t.Errorf("page: %d of %d: %+v", len(page), total, page)
	}
}
