package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
)

// BenchmarkWriteToStreams changes one of n APIs in SQLite and waits until both
// streams have it. ns/op is the write as well; after-commit is from the answer
// of the write to the later of the two streams.
func BenchmarkWriteToStreams(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n, "APIs"), func(b *testing.B) {
			s, err := sqlstore.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "tollgate.db"), sqlstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			world := &keymanagertest.StoreWorld{Store: s, Now: time.Now}
			world.Setup(b)
			var pos keymanager.Position
			for i := range n {
				pos = world.PutAPI(b, keymanagertest.SampleAPI(keymanager.APIID(fmt.Sprint("n", i))))
			}
			service, _ := start(b, publish.Options{Store: s, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
			api, err := s.API(b.Context(), "n0")
			if err != nil {
				b.Fatal(err)
			}

			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			changes, events := make(chan keymanager.Position, 1024), make(chan keymanager.Position, 1024)
			go func() {
				_ = service.Watch(ctx, dawn, []keymanager.CatalogKind{keymanager.CatalogAPI}, func(c keymanager.Change) error {
					if c.Type != keymanager.Item || c.At != c.After {
						changes <- c.At
					}
					return nil
				})
			}()
			go func() {
				_ = service.Follow(ctx, dawn, func(e keymanager.Event) error {
					events <- e.At
					return nil
				})
			}()
			await := func(pos keymanager.Position) {
				for _, c := range []chan keymanager.Position{changes, events} {
					for at := range c {
						if at.Reached(pos) {
							break
						}
					}
				}
			}
			await(pos)
			var after []time.Duration
			for b.Loop() {
				pos, err := s.InTx(ctx, func(s store.Store) error {
					api.Revision = 0
					return s.UpdateAPI(ctx, api)
				})
				committed := time.Now()
				if err != nil {
					b.Fatal(err)
				}
				await(pos)
				after = append(after, time.Since(committed))
			}
			slices.Sort(after)
			b.ReportMetric(float64(after[len(after)/2].Nanoseconds()), "after-commit-p50-ns")
			b.ReportMetric(float64(after[len(after)*99/100].Nanoseconds()), "after-commit-p99-ns")
		})
	}
}

// BenchmarkWait measures a report that confirms a position until the one who
// waits for it goes on.
func BenchmarkWait(b *testing.B) {
	g, err := publish.NewGateways(publish.GatewaysOptions{Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10 {
		if err := g.Report(b.Context(), authz(fmt.Sprint(i), 1<<40)); err != nil {
			b.Fatal(err)
		}
	}
	ask, done := make(chan uint64), make(chan error)
	defer close(ask)
	go func() {
		for seq := range ask {
			done <- g.Wait(context.Background(), at(seq))
		}
	}()
	b.ReportAllocs()
	seq := uint64(1)
	if err := g.Report(b.Context(), authz("last", seq)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		seq++
		ask <- seq
		if err := g.Report(b.Context(), authz("last", seq)); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
