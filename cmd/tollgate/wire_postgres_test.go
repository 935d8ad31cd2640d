//go:build !short

package main

import (
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"

	"tollgate/authz/cache/redistest"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// otherStores are the backends that need a server.
var otherStores = map[string]func(*testing.T) StoreConfig{
	"PostgreSQL": func(t *testing.T) StoreConfig { return StoreConfig{DSN: Secret(storetest.Postgres(t))} },
}

// otherCaches are those that need a server.
var otherCaches = map[string]func(*testing.T) RedisConfig{
	"Redis": func(t *testing.T) RedisConfig {
		cfg := defaultConfig().Redis
		cfg.Mode, cfg.Addresses = "single", []string{redistest.Start(t, redistest.Options{}).Addr}
		return cfg
	},
}

// A key manager that starts while another one writes to a new database waits for
// it, and leaves no credential behind that the database does not have.
func TestStartWaitsForAnotherKeyManager(t *testing.T) {
	dsn := storetest.Postgres(t)
	st, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = st.Close()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE organization IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	dir := stateDir(t)
	t.Setenv("TOLLGATE_STORE_DSN", dsn)
	p := serve(t, freeAddress(t), "keymanager", "--state", dir, "--keymanager", freeAddress(t))
	p.until(http.StatusServiceUnavailable, "lock timeout")
	if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	p.until(http.StatusOK, "")
	state := &State{Dir: dir}
	creds, err := readCredentials(state.Path(fileAdmin))
	if err != nil {
		t.Fatal(err)
	}
	var known int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM client WHERE consumer_key = $1", string(creds.ConsumerKey)).Scan(&known); err != nil || known != 1 {
		t.Errorf("the database has %d clients with the key in admin.json (%v)", known, err)
	}
	p.stop()
}
