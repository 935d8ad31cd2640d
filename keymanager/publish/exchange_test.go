package publish_test

import (
	"bytes"
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
)

// board is where key managers tell each other, without a database.
type board struct {
	mu    sync.Mutex
	rows  map[[2]string]told
	fail  error
	calls int
}

type told struct {
	reporter string
	store.GatewayReport
	at, changed time.Time
}

func (b *board) ExchangeGatewayReports(_ context.Context, reporter string, own []store.GatewayReport, silence time.Duration, since time.Time) ([]store.GatewayReport, time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.fail != nil {
		return nil, time.Time{}, b.fail
	}
	now := time.Now()
	for _, r := range own {
		key := [2]string{string(r.Kind), r.ID}
		changed := now
		if r.Document == nil {
			r.Document, changed = b.rows[key].Document, b.rows[key].changed
		}
		b.rows[key] = told{reporter, r, now.Add(-r.Age), changed}
	}
	var out []store.GatewayReport
	for _, r := range b.rows {
		if r.Age = now.Sub(r.at); r.reporter != reporter && r.Age < silence {
			if r.changed.Before(since) {
				r.Document = nil
			}
			out = append(out, r.GatewayReport)
		}
	}
	return out, now, nil
}

func (b *board) set(fail error) { b.mu.Lock(); defer b.mu.Unlock(); b.fail = fail }

func (b *board) count() int { b.mu.Lock(); defer b.mu.Unlock(); return b.calls }

func newBoard() *board { return &board{rows: map[[2]string]told{}} }

// shared starts a key manager's Gateways until the test ends.
func shared(t testing.TB, id string, with store.GatewayReports, log *slog.Logger) *publish.Gateways {
	t.Helper()
	g, err := publish.NewGateways(publish.GatewaysOptions{Now: time.Now, Silence: time.Minute, Shared: with, ID: id, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return g
}

// checkSharing has gateways that report to a and somebody who waits at b.
func checkSharing(t *testing.T, a, b *publish.Gateways) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first := authz("one", 1)
	first.Phase, first.Group = keymanager.PhaseLive, "eu"
	report(t, a, first)
	report(t, a, xds(1, node("n", true, 1)))
	eventually(t, "b knows both", func() bool { return len(b.States()) == 2 })
	for _, s := range b.States() {
		if s.Kind == keymanager.GatewayAuthz && (s.ID != "one" || s.Group != "eu" || s.Phase != keymanager.PhaseLive || s.Confirmed != at(1)) ||
			s.Kind == keymanager.GatewayXDS && (len(s.Nodes) != 1 || s.Nodes[0].ID != "n") {
			t.Errorf("b knows %+v", s)
		}
	}
	if err := b.Wait(ctx, at(1)); err != nil {
		t.Errorf("what is confirmed: %v", err)
	}
	err := b.Wait(ended(t), at(2))
	if err == nil || !strings.Contains(err.Error(), `authz "one"`) || !strings.Contains(err.Error(), `xds "x"`) {
		t.Errorf("waits for %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Wait(ctx, at(2)) }()
	first.Confirmed = at(2)
	report(t, a, first)
	report(t, a, xds(2, node("n", true, 1))) // Envoy is behind
	eventually(t, "b knows of the Envoy", func() bool {
		err := b.Wait(ended(t), at(2))
		return err != nil && strings.Contains(err.Error(), "an Envoy of xds") && !strings.Contains(err.Error(), "authz")
	})
	select {
	case err := <-done:
		t.Fatalf("does not wait for the Envoy: %v", err)
	default:
	}
	report(t, a, xds(2, node("n", true, 2)))
	if err := <-done; err != nil {
		t.Errorf("all have confirmed: %v", err)
	}

	// It moves to b: what a knows of it does not count any more.
	first.Confirmed = at(3)
	report(t, b, first)
	report(t, b, xds(3, node("n", true, 3)))
	if err := b.Wait(ctx, at(3)); err != nil {
		t.Errorf("after it has moved: %v", err)
	}
	eventually(t, "a knows that it has moved", func() bool { return a.Wait(ended(t), at(3)) == nil })
	if n := len(a.States()); n != 2 {
		t.Errorf("a knows %d parts, want 2", n)
	}
}

func TestSharedReports(t *testing.T) {
	with, log := newBoard(), slog.New(slog.DiscardHandler)
	checkSharing(t, shared(t, "a", with, log), shared(t, "b", with, log))
}

// While nothing can be exchanged, reports are taken all the same, nobody is
// taken for confirmed, and one line says so.
func TestSharedReportsFail(t *testing.T) {
	with := newBoard()
	var mu sync.Mutex
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); defer mu.Unlock(); text.Write(p) }), nil))
	with.set(errors.New("away"))
	g := shared(t, "a", with, log)
	report(t, g, authz("one", 5))
	eventually(t, "it tries again", func() bool { return with.count() > 3 })
	if err := g.Wait(ended(t), at(5)); err == nil {
		t.Error("nobody knows of the others, and yet all have confirmed")
	}
	if n := len(g.States()); n != 1 {
		t.Errorf("%d parts, want the one that reports here", n)
	}
	with.set(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := g.Wait(ctx, at(5)); err != nil {
		t.Errorf("after it can be exchanged: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(text.String(), "cannot be shared"); n != 1 {
		t.Errorf("%d lines about it, want 1:\n%s", n, &text)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
