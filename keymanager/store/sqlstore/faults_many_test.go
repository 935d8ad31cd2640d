//go:build faults

package sqlstore_test

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// faultManyDead: a snapshot of very many revocations is read within the
// deadline of a statement, whatever that is.
func faultManyDead(t *testing.T) {
	ctx := t.Context()
	s := openPostgres(t, storetest.Postgres(t), sqlstore.Options{StatementTimeout: time.Second})
	const all, some = 300_000, 20_000
	for from := 1; from <= all; from += some {
		err := s.Exec(ctx, `INSERT INTO log_event (seq, kind, body, expires_at)
			SELECT n, 'dead', jsonb_build_object('token', lpad(to_hex(n), 32, '0'), 'expires_at', CAST($1 AS BIGINT)), $1 FROM generate_series(CAST($2 AS BIGINT), $3) n`,
			time.Now().Add(time.Hour).UnixMilli(), from, from+some-1)
		if err != nil {
			t.Fatal(err)
		}
	}
	dead, err := s.LiveDead(ctx, time.Now())
	if err != nil || len(dead) != all {
		t.Fatalf("%d entries, %v", len(dead), err)
	}
	last := keymanager.TokenID{}
	for _, d := range dead {
		if d.TokenID.String() <= last.String() && !last.IsZero() {
			t.Fatalf("%v follows %v", d.TokenID, last)
		}
		last = d.TokenID
	}
}

// faultBulk: what ends many tokens is one event.
func faultBulk(t *testing.T) {
	ctx := t.Context()
	s := openPostgres(t, storetest.Postgres(t), sqlstore.Options{})
	crashWorld(t, s)
	if err := s.Exec(ctx, `INSERT INTO access_token_primary (digest, partition, id, consumer_key, application_id, key_type, user_id, user_type, scopes, issued_at, expires_at)
		SELECT decode('00' || lpad(to_hex(n), 64, '0'), 'hex'), 'primary', decode(lpad(to_hex(n), 32, '0'), 'hex'), 'key', 'app', 'PRODUCTION', 'user', 'APPLICATION', '', 0, $1
		FROM generate_series(1, 20000) n`, time.Now().Add(time.Hour).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	before, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := s.DeleteClient(ctx, "key"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	events, err := s.Events(ctx, before.Seq, 100)
	if err != nil || len(events) != 2 {
		t.Errorf("%d events, %v; want the death of the client and its application stale", len(events), err)
	}
	var d keymanager.Digest
	d.Sum[31] = 77
	if _, err := s.TokenByDigest(ctx, d); !keymanager.IsNotFound(err) {
		t.Errorf("a token of it: %v", err)
	}
}
