package sqlstore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store/sqlstore"
)

// TestBackup copies a database that is open, restores it, and finds that no
// token that was live then is live after it.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "t.db"), filepath.Join(dir, "copy.db")
	s, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	crashWorld(t, s)
	before := issued(t, s, 0, 30)
	if err := sqlstore.BackupSQLite(t.Context(), path, copied); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if err := sqlstore.BackupSQLite(t.Context(), path, copied); err == nil {
		t.Error("wrote over a file")
	}
	if err := sqlstore.BackupSQLite(t.Context(), path+"x", copied+"2"); err == nil {
		t.Error("copied what is not there")
	}
	after := issued(t, s, 30, 5)
	revoke(t, s, before[:10])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = sqlstore.OpenSQLite(t.Context(), copied, sqlstore.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkRestored(t, s, before, after)
}

// issued stores tokens that live for an hour.
func issued(t *testing.T, s *sqlstore.Store, from, n int) []*keymanager.Token {
	t.Helper()
	var all []*keymanager.Token
	for i := from; i < from+n; i++ {
		token := crashToken(i)
		token.IssuedAt, token.ExpiresAt = time.Now(), time.Now().Add(time.Hour)
		if err := s.CreateToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		all = append(all, token)
	}
	return all
}

func revoke(t *testing.T, s *sqlstore.Store, tokens []*keymanager.Token) {
	t.Helper()
	for _, token := range tokens {
		if _, err := s.RevokeToken(t.Context(), token.ID, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

// checkRestored does what an operator does after a restore, and checks that no
// token of before is honoured, those that were issued later are not known, and
// new ones live.
func checkRestored(t *testing.T, s *sqlstore.Store, before, after []*keymanager.Token) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if facts, _, err := s.TokenFacts(ctx, before[0].Digest, ""); err != nil || facts == nil || !facts.RevokedAt.IsZero() {
		t.Fatalf("a token that was revoked after the backup: %+v, %v; want it live again, or this tests nothing", facts, err)
	}
	n, err := s.RevokeAllTokens(ctx)
	if err != nil || n != len(before) {
		t.Errorf("revoked %d tokens, %v; want %d", n, err, len(before))
	}
	if n, err = s.RevokeAllTokens(ctx); err != nil || n != 0 {
		t.Errorf("again: %d, %v", n, err)
	}
	epoch, err := s.NewEpoch(ctx)
	if err != nil || epoch == head.Epoch {
		t.Errorf("epoch %v, %v", epoch, err)
	}
	for _, token := range before {
		facts, at, err := s.TokenFacts(ctx, token.Digest, "")
		if err != nil || facts == nil || facts.RevokedAt.IsZero() || at.Epoch != epoch {
			t.Errorf("token %v: %+v, %v", token.ID, facts, err)
		}
	}
	for _, token := range after {
		if facts, _, err := s.TokenFacts(ctx, token.Digest, ""); err != nil || facts != nil {
			t.Errorf("token %v: %+v, %v; want that it is not known", token.ID, facts, err)
		}
	}
	fresh := issued(t, s, 1000, 1)
	if facts, _, err := s.TokenFacts(ctx, fresh[0].Digest, ""); err != nil || facts == nil || !facts.RevokedAt.IsZero() {
		t.Errorf("a new token: %+v, %v", facts, err)
	}
}
