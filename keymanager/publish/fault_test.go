//go:build !short

package publish_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// TestFaultLog is about what gateways are told, over two key managers on one
// PostgreSQL.
func TestFaultLog(t *testing.T) {
	t.Run("F20 no fault, 20 revocations a second", faultNone)
	t.Run("F40 rows that no program has written", faultBadRows)
}

// keyManager is one key manager: its store and its service.
type keyManager struct {
	*sqlstore.Store
	*publish.Service
	stop func()
}

func startKeyManager(t *testing.T, dsn string, log *slog.Logger) *keyManager {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	service, stop := start(t, publish.Options{Store: s, Now: time.Now, Logger: log, Heartbeat: 50 * time.Millisecond, PruneEvery: time.Hour})
	return &keyManager{s, service, stop}
}

// dead is the revocation of a token with a number.
func dead(n int) keymanager.Dead {
	d := keymanager.Dead{ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Millisecond)}
	copy(d.TokenID[:], fmt.Sprintf("%016d", n+1))
	return d
}

func kill(ctx context.Context, s *sqlstore.Store, n int) error {
	_, err := s.InTx(ctx, func(tx store.Store) error {
		d := dead(n)
		return tx.Append(ctx, store.LogEvent{Dead: &d})
	})
	return err
}

// faultNone measures from the answer of a revocation until followers of both
// key managers have it.
func faultNone(t *testing.T) {
	dsn, quiet := storetest.Postgres(t), slog.New(slog.DiscardHandler)
	nodes := []*keyManager{startKeyManager(t, dsn, quiet), startKeyManager(t, dsn, quiet)}
	const followers, revocations = 40, 100
	var mu sync.Mutex
	seen := map[keymanager.TokenID][]time.Time{}
	ready := make(chan struct{}, followers)
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer group.Wait()
	defer cancel()
	for i := range followers {
		group.Go(func() {
			_ = nodes[i%2].Follow(ctx, keymanager.Position{}, func(e keymanager.Event) error {
				if e.Type == keymanager.SnapshotEnd {
					ready <- struct{}{}
				}
				if e.Dead != nil {
					mu.Lock()
					seen[e.Dead.TokenID] = append(seen[e.Dead.TokenID], time.Now())
					mu.Unlock()
				}
				return nil
			})
		})
	}
	for range followers {
		<-ready
	}
	answered := make([]time.Time, revocations)
	tick := time.NewTicker(time.Second / 20)
	defer tick.Stop()
	for n := range revocations {
		if err := kill(ctx, nodes[n%2].Store, n); err != nil {
			t.Fatal(err)
		}
		answered[n] = time.Now()
		<-tick.C
	}
	eventually(t, "everybody has everything", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for n := range revocations {
			if len(seen[dead(n).TokenID]) < followers {
				return false
			}
		}
		return true
	})
	var lags []time.Duration
	for n := range revocations {
		for _, at := range seen[dead(n).TokenID] {
			lags = append(lags, at.Sub(answered[n]))
		}
	}
	slices.Sort(lags)
	p50, p99 := lags[len(lags)/2], lags[len(lags)*99/100]
	t.Logf("lag p50 %v, p99 %v, max %v", p50, p99, lags[len(lags)-1])
	if p99 > time.Second {
		t.Errorf("lag p99 %v, want at most 1 s", p99)
	}
}

// garbage makes a JSON value of any kind, for a column that holds some.
func garbage(r *rand.Rand) string {
	values := []string{
		`null`, `7`, `"text"`, `[]`, `{}`, `[null]`, `{"hosts": 7}`, `{"hosts": [null, 1]}`, `{"resources": [{"method": 5}]}`,
		`{"resources": [{"method": "BREW", "path": "%zz", "auth_type": "WHO"}]}`, `{"resources": {"a": 1}}`, `{"timeout_ms": 1e300}`, `{"timeout_ms": "soon"}`,
		`{"timeout": -9223372036854775808}`, `{"protocol": "CARRIER PIGEON"}`, `{"production": ["::not a URL", ""]}`, `{"cors": {"max_age": []}}`, `{"cors": 3}`,
		`{"tiers": ["` + strings.Repeat("x", 1<<16) + `"]}`, `{"labels": [` + strings.Repeat(`"a",`, 9999) + `"a"]}`,
		strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200),
	}
	return values[r.IntN(len(values))]
}

// faultBadRows writes random content into rows: only those suffer.
func faultBadRows(t *testing.T) {
	ctx := t.Context()
	dsn := storetest.Postgres(t)
	s := openPostgres(t, dsn)
	world := &keymanagertest.StoreWorld{Store: s, Now: time.Now}
	world.Setup(t)
	const bad, good = 300, 50
	for i := range bad + good {
		world.PutAPI(t, keymanagertest.SampleAPI(keymanager.APIID(fmt.Sprint("n", i))))
	}
	random := rand.New(rand.NewPCG(3, 4))
	server := connect(t, dsn)
	unreadable := map[string]bool{}
	for i := range bad {
		id := fmt.Sprint("n", i)
		if _, err := server.Exec(ctx, `UPDATE api SET spec = $2, state = $3 WHERE id = $1`, id, garbage(random), fmt.Sprint("STATE-", i%3)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.API(ctx, keymanager.APIID(id)); err != nil {
			unreadable[id] = true
		}
	}
	if len(unreadable) < bad/10 {
		t.Fatalf("only %d of %d rows cannot be read", len(unreadable), bad)
	}
	var mu sync.Mutex
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); defer mu.Unlock(); text.Write(p) }), nil))
	node := startKeyManager(t, dsn, log)
	got := map[string]bool{}
	changed := make(chan keymanager.APIID, 10)
	follow, cancel := context.WithCancel(ctx)
	defer cancel()
	loaded, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		complete := false
		ended <- node.Watch(follow, keymanager.Position{}, []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
			switch {
			case c.Type == keymanager.SnapshotEnd && !complete:
				complete = true
				close(loaded)
			case c.API == nil:
			case !complete:
				got[string(c.API.ID)] = true
			case c.At != c.After: // snapshots come again
				changed <- c.API.ID
			}
			return nil
		})
	}()
	<-loaded
	for i := range bad + good {
		id := fmt.Sprint("n", i)
		if got[id] == unreadable[id] {
			t.Errorf("%s: published %t, unreadable %t", id, got[id], unreadable[id])
		}
	}
	mu.Lock()
	for id := range unreadable {
		if !strings.Contains(text.String(), "api="+id+" ") {
			t.Errorf("the log does not name %s", id)
		}
	}
	mu.Unlock()
	// Events that name them, and one event that cannot be read itself, do not
	// hold up a good change, nor a revocation.
	for id := range unreadable {
		if _, err := s.InTx(ctx, func(tx store.Store) error { return tx.Append(ctx, store.LogEvent{API: keymanager.APIID(id)}) }); err != nil {
			t.Fatal(err)
		}
	}
	world.PutAPI(t, keymanagertest.SampleAPI("n349"))
	for id := range changed {
		if id == "n349" {
			break
		}
	}
	revoked := make(chan keymanager.TokenID, 100)
	go func() {
		_ = node.Follow(follow, keymanager.Position{}, func(e keymanager.Event) error {
			if e.Dead != nil {
				revoked <- e.Dead.TokenID
			}
			return nil
		})
	}()
	for n, body := range []string{`7`, `{"token": 5}`, `{"token": "short"}`, `[]`, `{"not_before": "x"}`} {
		if err := kill(ctx, s, 2*n); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Exec(ctx, `UPDATE log_event SET body = $1 WHERE seq = (SELECT seq FROM log_head)`, body); err != nil {
			t.Fatal(err)
		}
		if err := kill(ctx, s, 2*n+1); err != nil {
			t.Fatal(err)
		}
		for id := range revoked {
			if id == dead(2*n+1).TokenID {
				break
			}
		}
	}
	cancel()
	<-ended
}
