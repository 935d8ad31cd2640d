//go:build faults

package publish_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// TestFaultLogMore holds the longer rows of TestFaultLog.
func TestFaultLogMore(t *testing.T) {
	t.Run("F23 stream cut 100 times over two key managers", faultStreamCut)
	t.Run("F25 key manager stopped in the middle of a commit", faultStalledCommit)
	t.Run("F14 first revocation after an outage", faultAfterOutage)
	t.Run("F32 clock of the database a day ahead", faultClockAhead)
}

// mirror is what a gateway would hold: it refuses gaps, and a snapshot takes
// the place of everything.
type mirror struct {
	cursor  keymanager.Cursor
	last    keymanager.Position
	dead    map[keymanager.TokenID]bool
	loading map[keymanager.TokenID]bool
	full    int // snapshots
}

var errCut = errors.New("cut")

func (m *mirror) take(e keymanager.Event) error {
	if err := m.cursor.Accept(e.Mark); err != nil {
		return err
	}
	switch e.Type {
	case keymanager.SnapshotBegin:
		m.loading = map[keymanager.TokenID]bool{}
	case keymanager.SnapshotEnd:
		m.dead, m.loading, m.last = m.loading, nil, e.At
		m.full++
	case keymanager.Item:
		if to := m.dead; e.Dead != nil {
			if m.loading != nil {
				to = m.loading
			}
			to[e.Dead.TokenID] = true
		}
		if m.loading == nil {
			m.last = e.At
		}
	case keymanager.Heartbeat:
		m.last = e.At
	}
	return nil
}

func faultStreamCut(t *testing.T) {
	dsn, quiet := storetest.Postgres(t), slog.New(slog.DiscardHandler)
	nodes := []*keyManager{startKeyManager(t, dsn, quiet), startKeyManager(t, dsn, quiet)}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const writers = 4
	var group sync.WaitGroup
	var mu sync.Mutex
	written := 0
	writing, stop := context.WithCancel(ctx)
	for w := range writers {
		group.Go(func() {
			for n := w; writing.Err() == nil; n += writers {
				_, err := nodes[w%2].InTx(context.WithoutCancel(ctx), func(tx store.Store) error {
					d := dead(n)
					return tx.Append(ctx, store.LogEvent{Dead: &d}, store.LogEvent{Stale: &keymanager.Stale{User: "u"}})
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				written++
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	m := &mirror{dead: map[keymanager.TokenID]bool{}}
	for cut := range 100 {
		switch {
		case cut%25 == 10: // away for longer than the log is kept
			before, err := nodes[0].Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the log goes on", func() bool { h, err := nodes[0].Head(ctx); return err == nil && h.Seq > before.Seq+2200 })
			head, err := nodes[0].Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := nodes[0].Prune(ctx, head.Seq-10, time.Now()); err != nil {
				t.Fatal(err)
			}
		case cut%25 == 20:
			epoch, err := nodes[1].NewEpoch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes { // both know of it
				eventually(t, "the new epoch is known", func() bool {
					var at keymanager.Position
					_ = n.Follow(ctx, keymanager.Position{}, func(e keymanager.Event) error { at = e.At; return errCut })
					return at.Epoch == epoch
				})
			}
		}
		left := 1 + cut%17
		err := nodes[cut%2].Follow(ctx, m.cursor.Start(), func(e keymanager.Event) error {
			if err := m.take(e); err != nil {
				return err
			}
			if !m.cursor.InSnapshot() || cut%5 == 0 { // every fifth stream may end within a snapshot
				left--
			}
			if left <= 0 {
				return errCut
			}
			return nil
		})
		if !errors.Is(err, errCut) {
			t.Fatalf("stream %d ended with %v", cut, err)
		}
	}
	stop()
	group.Wait()
	head, err := nodes[0].Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = nodes[0].Follow(ctx, m.cursor.Start(), func(e keymanager.Event) error {
		if err := m.take(e); err != nil {
			return err
		}
		if m.last.Reached(head) {
			return errCut
		}
		return nil
	})
	if !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(m.dead) != written || m.full < 8 {
		t.Errorf("%d revocations known of %d, %d snapshots", len(m.dead), written, m.full)
	}
	t.Logf("%d revocations, %d snapshots", written, m.full)
}

// faultStalledCommit stops one key manager at many places of the message that
// commits: others revoke meanwhile, and nothing is skipped.
func faultStalledCommit(t *testing.T) {
	server := storetest.StartServer(t)
	link := storetest.NewLink(t, server)
	quiet := slog.New(slog.DiscardHandler)
	other := startKeyManager(t, server.DSN(), quiet)
	stuck, err := sqlstore.OpenPostgres(t.Context(), link.DSN(), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	var mu sync.Mutex
	got := map[keymanager.TokenID]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var cursor keymanager.Cursor
		_ = other.Follow(ctx, keymanager.Position{}, func(e keymanager.Event) error {
			mu.Lock()
			defer mu.Unlock()
			if err := cursor.Accept(e.Mark); err != nil {
				t.Error(err)
			}
			if e.Dead != nil {
				got[e.Dead.TokenID] = true
			}
			return nil
		})
	}()
	has := func(n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return got[dead(n).TokenID] }
	}
	var worst time.Duration
	for i, at := range []int{1, 40, 80, 120, 200, 300, 100_000} {
		if err := stuck.Ping(ctx); err != nil { // a connection that is open
			t.Fatal(err)
		}
		link.StallCommit(at)
		answer := make(chan error, 1)
		go func() { answer <- kill(context.WithoutCancel(ctx), stuck, 2*i) }()
		eventually(t, "the commit is stalled", func() bool { return link.Stalls() > 0 })
		begun := time.Now()
		if err := kill(ctx, other.Store, 2*i+1); err != nil {
			t.Errorf("while another is stopped at byte %d: %v", at, err)
		}
		worst = max(worst, time.Since(begun))
		eventually(t, "it is heard of", has(2*i+1))
		link.Heal()
		if err := <-answer; err == nil {
			eventually(t, "what was committed late is heard of", has(2*i))
		}
	}
	if worst > 2*time.Second {
		t.Errorf("others waited %v, want at most 2 s", worst)
	}
	cancel()
	<-ended
}

// faultAfterOutage: a revocation that is answered as soon as the database is
// back is felt within the time that its answer waits.
func faultAfterOutage(t *testing.T) {
	server := storetest.StartServer(t)
	quiet := slog.New(slog.DiscardHandler)
	node := startKeyManager(t, server.DSN(), quiet)
	gateways, err := publish.NewGateways(publish.GatewaysOptions{Now: time.Now, Silence: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, loaded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		once := sync.OnceFunc(func() { close(loaded) })
		_ = node.Follow(ctx, keymanager.Position{}, func(e keymanager.Event) error {
			if e.Type == keymanager.SnapshotEnd {
				once()
			}
			return gateways.Report(ctx, keymanager.GatewayState{Kind: keymanager.GatewayAuthz, ID: "a", Confirmed: e.At})
		})
	}()
	<-loaded
	late := 0
	const rounds = 5
	for n := range rounds {
		server.Kill()
		eventually(t, "it is noticed", func() bool { return kill(ctx, node.Store, 1000+n) != nil })
		server.Start()
		var at keymanager.Position
		eventually(t, "a revocation is answered", func() bool {
			at, err = node.InTx(ctx, func(tx store.Store) error {
				d := dead(n)
				return tx.Append(ctx, store.LogEvent{Dead: &d})
			})
			return err == nil
		})
		wait, done := context.WithTimeout(ctx, 250*time.Millisecond)
		if err := gateways.Wait(wait, at); err != nil {
			late++
		}
		done()
	}
	if late > rounds/2 {
		t.Errorf("%d of %d first revocations were felt after their answer", late, rounds)
	}
	cancel()
	<-ended
}

// ahead is a database whose clock is a day ahead. (Its own clock cannot be
// moved from here.)
type ahead struct{ *sqlstore.Store }

func (a ahead) DatabaseTime(ctx context.Context) (time.Time, error) {
	at, err := a.Store.DatabaseTime(ctx)
	return at.Add(24 * time.Hour), err
}

func faultClockAhead(t *testing.T) {
	ctx := t.Context()
	s := openPostgres(t, storetest.Postgres(t))
	now := time.Now()
	if err := s.CreateToken(ctx, &keymanager.Token{ID: keymanager.TokenID{1}, ConsumerKey: "key", IssuedAt: now.Add(-49 * time.Hour), ExpiresAt: now.Add(-48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	sweeper := func(with publish.SweptStore, now func() time.Time) (int, error) {
		w, err := publish.NewSweeper(publish.SweeperOptions{Store: with, Now: now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return w.Sweep(ctx)
	}
	for what, refused := range map[string]func() (int, error){
		"database ahead":    func() (int, error) { return sweeper(ahead{s}, time.Now) },
		"key manager ahead": func() (int, error) { return sweeper(s, func() time.Time { return time.Now().Add(time.Hour) }) },
	} {
		if n, err := refused(); n != 0 || err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("%s: removed %d, %v", what, n, err)
		}
	}
	if n, err := sweeper(s, time.Now); n != 1 || err != nil {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
}
