package storetest

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testTokens(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	token := newToken(&w.Client, w.Owner.ID)
	wantEvents(t, s, "create", func() error { return s.CreateToken(ctx, &token) })
	wantSame(t, "read", get(s.TokenByDigest(ctx, token.Digest))(t), &token)
	other := token.Digest
	other.PepperID++
	wantKind(t, "the same sum with another pepper", second(s.TokenByDigest(ctx, other)), keymanager.KindNotFound)
	same := newToken(&w.Client, w.Owner.ID)
	same.Digest = token.Digest
	wantFails(t, s, "same digest", keymanager.KindConflict, func() error { return s.CreateToken(ctx, &same) })
	same.Digest, same.ID, same.Scopes = digest(), token.ID, nil
	wantFails(t, s, "same id", keymanager.KindConflict, func() error { return s.CreateToken(ctx, &same) })
	same.ID = tokenID()
	must(t, s.CreateToken(ctx, &same))
	wantSame(t, "a token without scopes", get(s.TokenByDigest(ctx, same.Digest))(t), &same)

	at := t0.Add(time.Minute)
	wantEvents(t, s, "revoke", func() error {
		done, err := s.RevokeToken(ctx, token.ID, at)
		if !done {
			t.Error("the first revocation did nothing")
		}
		return err
	}, store.LogEvent{Dead: &keymanager.Dead{TokenID: token.ID, ExpiresAt: token.ExpiresAt}})
	wantEvents(t, s, "revoke again", func() error {
		done, err := s.RevokeToken(ctx, token.ID, at.Add(time.Minute))
		if done {
			t.Error("the second revocation did something")
		}
		return err
	})
	token.RevokedAt = at
	wantSame(t, "revoked", get(s.TokenByDigest(ctx, token.Digest))(t), &token)
	wantFails(t, s, "revoke a missing one", keymanager.KindNotFound, func() error { return second(s.RevokeToken(ctx, tokenID(), at)) })

	// Expired tokens go, oldest first and no more than asked for.
	var late []keymanager.Token
	for i := range 5 {
		l := newToken(&w.Client, w.Owner.ID)
		l.ExpiresAt = t0.Add(time.Duration(10-i) * time.Second)
		must(t, s.CreateToken(ctx, &l))
		late = append(late, l)
	}
	for i, want := range []int{2, 2, 0} { // those of 6 s to 9 s
		if n := get(s.DeleteExpiredTokens(ctx, t0.Add(10*time.Second), 2))(t); n != want {
			t.Errorf("clean-up %d: %d deleted, want %d", i, n, want)
		}
	}
	must(t, second(s.TokenByDigest(ctx, late[0].Digest)))
	wantKind(t, "an expired token", second(s.TokenByDigest(ctx, late[1].Digest)), keymanager.KindNotFound)
}
