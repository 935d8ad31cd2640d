//go:build !short

package sqlstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return openPostgres(t, storetest.Postgres(t), sqlstore.Options{})
	})
}

func openPostgres(t *testing.T, dsn string, o sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), dsn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestPostgresNewEpoch(t *testing.T) {
	testNewEpoch(t, openPostgres(t, storetest.Postgres(t), sqlstore.Options{}))
}

// TestPostgresPlans checks that what runs on every request reads by index, and
// the table of one partition, not their parent.
func TestPostgresPlans(t *testing.T) {
	s := openPostgres(t, storetest.Postgres(t)+"&enable_seqscan=off", sqlstore.Options{})
	for name, query := range sqlstore.HotQueries {
		args := []any{[]byte("x"), "api"}[:strings.Count(query, "$2")+1]
		if name == "ClientFacts" {
			args[0] = "key"
		}
		steps, err := s.Texts(t.Context(), 1, "EXPLAIN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			if strings.Contains(step, "Seq Scan") && !strings.Contains(step, "Seq Scan on log_head") || strings.Contains(step, "Append") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}

// TestPostgresSharedByTwo has two key managers on one database: what one
// commits wakes the other, and is dense in the eyes of both.
func TestPostgresSharedByTwo(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	stores := []*sqlstore.Store{openPostgres(t, dsn, sqlstore.Options{}), openPostgres(t, dsn, sqlstore.Options{})}
	wake, err := stores[0].Wake(ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-wake // that it listens
	const each = 50
	var writers sync.WaitGroup
	for _, s := range stores {
		for range 4 {
			writers.Go(func() {
				for i := range each {
					_, err := s.InTx(ctx, func(s store.Store) error {
						return s.Append(ctx, store.LogEvent{API: keymanager.APIID(fmt.Sprint("a", i))})
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	for seen := uint64(0); seen < 8*each; {
		select {
		case <-wake:
		case <-time.After(time.Minute):
			t.Fatalf("not woken after event %d", seen)
		}
		for {
			events, err := stores[0].Events(ctx, seen, 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(events) == 0 {
				break
			}
			seen = events[len(events)-1].Seq
		}
	}
	writers.Wait()
	for _, s := range stores {
		if h, err := s.Head(ctx); err != nil || h.Seq != 8*each {
			t.Errorf("head %v, %v", h, err)
		}
	}
}

// TestPostgresPruneLeavesTheHead: however long it takes to prune, a revocation
// can be written meanwhile.
func TestPostgresPruneLeavesTheHead(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	s := openPostgres(t, dsn+"&lock_timeout=60s", sqlstore.Options{StatementTimeout: time.Minute})
	write := func() error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, err := s.InTx(ctx, func(s store.Store) error { return s.Append(ctx, store.LogEvent{API: "a"}) })
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(context.WithoutCancel(ctx)) }()
	if _, err := other.Exec(ctx, `BEGIN; SELECT seq FROM log_event FOR UPDATE`); err != nil { // the slow disk
		t.Fatal(err)
	}
	pruned := make(chan error, 1)
	go func() { pruned <- s.Prune(ctx, 1, time.Now()) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		waiting, err := s.Texts(ctx, 1, `SELECT 'waits' FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM log_event%'`)
		if err != nil {
			t.Fatal(err)
		}
		if len(waiting) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pruning never began")
		}
	}
	if err := write(); err != nil {
		t.Errorf("an event while the log is being pruned: %v", err)
	}
	select {
	case err := <-pruned:
		t.Errorf("the pruning ended before the event was written: %v", err)
	default:
	}
	if _, err := other.Exec(ctx, `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := <-pruned; err != nil {
		t.Error(err)
	}
}

// TestSameColumns checks that both engines have the same tables and columns,
// of types that belong together.
func TestSameColumns(t *testing.T) {
	ctx := t.Context()
	sqlite, err := openSQLite(t).Texts(ctx, 1, `SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || (c."notnull" OR c.pk > 0)
		FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	postgres, err := openPostgres(t, storetest.Postgres(t), sqlstore.Options{}).Texts(ctx, 1,
		`SELECT table_name || '.' || column_name || ' ' || CASE data_type
			WHEN 'text' THEN 'TEXT' WHEN 'jsonb' THEN 'TEXT' WHEN 'bytea' THEN 'BLOB'
			WHEN 'bigint' THEN 'INTEGER' WHEN 'integer' THEN 'INTEGER' WHEN 'boolean' THEN 'INTEGER' ELSE data_type END || ' ' || (is_nullable = 'NO')::int
		FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT IN ('goose_db_version', 'access_token')`)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(sqlite)
	slices.Sort(postgres)
	if diff := cmp.Diff(sqlite, postgres); diff != "" {
		t.Errorf("columns (-SQLite +Postgres):\n%s", diff)
	}
}
