//go:build faults

package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// faultMigrationKilled kills the server while each migration runs; the next
// start finishes it.
func faultMigrationKilled(t *testing.T) {
	server := storetest.StartServer(t)
	ctx := t.Context()
	server.Exec(`CREATE TABLE stop_at (n int); INSERT INTO stop_at VALUES (0);
		CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN
			n := nextval('commands'); IF n = (SELECT s.n FROM stop_at s) THEN PERFORM pg_sleep(60); END IF; END $$;
		CREATE SEQUENCE commands`)
	server.Exec(`CREATE EVENT TRIGGER slow ON ddl_command_end EXECUTE FUNCTION slow()`)
	for at := 1; ; at++ {
		server.Exec(fmt.Sprintf(`ALTER EVENT TRIGGER slow DISABLE; DROP SCHEMA IF EXISTS tollgate CASCADE; CREATE SCHEMA tollgate;
			UPDATE stop_at SET n = %d; SELECT setval('commands', 1, false); ALTER EVENT TRIGGER slow ENABLE`, at))
		dsn := strings.Replace(server.DSN(), "search_path=public", "search_path=tollgate,public", 1)
		opened := make(chan error, 1)
		go func() {
			s, err := sqlstore.OpenPostgres(context.WithoutCancel(ctx), dsn, sqlstore.Options{})
			if err == nil {
				err = s.Close()
			}
			opened <- err
		}()
		sleeping := false
		var err error
		for done := false; !done && !sleeping; {
			select {
			case err = <-opened:
				done = true
			case <-time.After(5 * time.Millisecond):
				watch, watchErr := sqlstore.OpenPostgres(ctx, server.DSN(), sqlstore.Options{NoMigrate: true})
				if watchErr != nil {
					t.Fatal(watchErr)
				}
				found, watchErr := watch.Texts(ctx, 1, `SELECT 'x' FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
				if watchErr != nil {
					t.Fatal(watchErr)
				}
				sleeping = len(found) > 0
				_ = watch.Close()
			}
		}
		if !sleeping {
			if err != nil {
				t.Fatal(err)
			}
			if at < 20 {
				t.Errorf("only %d commands were interrupted", at-1)
			}
			t.Logf("interrupted at %d commands", at-1)
			return
		}
		server.Kill()
		if err := <-opened; err == nil {
			t.Errorf("command %d: migrated by a server that was killed", at)
		}
		server.Start()
		server.Exec(`ALTER EVENT TRIGGER slow DISABLE`)
		s, err := sqlstore.OpenPostgres(ctx, dsn, sqlstore.Options{})
		if err != nil {
			t.Fatalf("after command %d was interrupted: %v", at, err)
		}
		if left, err := s.Pending(ctx); err != nil || len(left) > 0 {
			t.Errorf("command %d: pending %v, %v", at, left, err)
		}
		if err := errors.Join(revocation(ctx, s), s.Close()); err != nil {
			t.Errorf("command %d: %v", at, err)
		}
	}
}
