//go:build !short

package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

func openPostgres(t testing.TB, dsn string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{})
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

func TestPostgresSharedReports(t *testing.T) {
	dsn, log := storetest.Postgres(t), slog.New(slog.DiscardHandler)
	checkSharing(t, shared(t, "a", openPostgres(t, dsn), log), shared(t, "b", openPostgres(t, dsn), log))
}

// TestPostgresSharedReportOfAnything: one report that says what a database
// cannot hold does not keep those of all others from being shared.
func TestPostgresSharedReportOfAnything(t *testing.T) {
	dsn, log := storetest.Postgres(t), slog.New(slog.DiscardHandler)
	a, b := shared(t, "a", openPostgres(t, dsn), log), shared(t, "b", openPostgres(t, dsn), log)
	const odd = "an \x00 and \xff\\u0000"
	s := authz("odd", 1)
	s.Group = odd
	s.Rejected = []keymanager.RejectedResource{{Node: odd, Type: odd, Name: odd, API: odd, Reason: odd}}
	s.Nodes = []keymanager.NodeState{{ID: odd, Group: odd, Version: odd, Rejected: s.Rejected}}
	report(t, a, s)
	report(t, a, authz("plain", 1))
	for deadline := time.Now().Add(30 * time.Second); len(b.States()) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("known elsewhere: %v", b.States())
		}
		report(t, a, s)
		report(t, a, authz("plain", 1))
	}
	s.ID = "\x00"
	if err := a.Report(t.Context(), s); keymanager.KindOf(err) != keymanager.KindInvalid {
		t.Errorf("a report of %q: %v", s.ID, err)
	}
}

// counted counts what a key manager asks of the database.
type counted struct {
	store.GatewayReports
	calls atomic.Int64
}

func (c *counted) ExchangeGatewayReports(ctx context.Context, reporter string, own []store.GatewayReport, silence time.Duration, since time.Time) ([]store.GatewayReport, time.Time, error) {
	c.calls.Add(1)
	return c.GatewayReports.ExchangeGatewayReports(ctx, reporter, own, silence, since)
}

// TestPostgresSharedReportsCost: a hundred gateways that report every second,
// with nothing new to say, cost each of two key managers about a statement per
// second, however many they are.
func TestPostgresSharedReportsCost(t *testing.T) {
	dsn, log := storetest.Postgres(t), slog.New(slog.DiscardHandler)
	stores := [2]*counted{{GatewayReports: openPostgres(t, dsn)}, {GatewayReports: openPostgres(t, dsn)}}
	begun := time.Now()
	a, b := shared(t, "a", stores[0], log), shared(t, "b", stores[1], log)
	for second := 0; second < 3 || len(a.States()) < 100 || len(b.States()) < 100; second++ {
		if second == 30 {
			t.Fatalf("a knows %d gateways, b %d; want 100", len(a.States()), len(b.States()))
		}
		for i := range 50 {
			report(t, a, authz(fmt.Sprint("a", i), 1))
			report(t, b, authz(fmt.Sprint("b", i), 1))
		}
		<-time.After(time.Second)
	}
	limit := 20 + 3*time.Since(begun).Seconds()
	for i, s := range stores {
		if n := s.calls.Load(); float64(n) > limit {
			t.Errorf("key manager %d: %d exchanges in %v, want at most %.0f", i, n, time.Since(begun), limit)
		}
	}
}

// BenchmarkSharedWait measures, over Postgres, a report that confirms a
// position at one key manager until the one who waits at another goes on.
func BenchmarkSharedWait(b *testing.B) {
	dsn, log := storetest.Postgres(b), slog.New(slog.DiscardHandler)
	first, second := shared(b, "a", openPostgres(b, dsn), log), shared(b, "b", openPostgres(b, dsn), log)
	tell := func(seq uint64) {
		for i := range 50 {
			if err := first.Report(b.Context(), authz(fmt.Sprint(i), seq)); err != nil {
				b.Fatal(err)
			}
		}
	}
	tell(1)
	for len(second.States()) < 50 {
		time.Sleep(time.Millisecond)
	}
	var all []time.Duration
	seq := uint64(1)
	for b.Loop() {
		seq++
		done := make(chan error, 1)
		go func() {
			done <- second.Wait(context.Background(), keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: seq})
		}()
		begun := time.Now()
		tell(seq)
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(begun))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}
