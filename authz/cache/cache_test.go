package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/keymanager"
)

// Toxics of toxiproxy outlive a connection that ends while they write to it, and
// the client of a Redis that is away looks for it for another second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"))
}

var errAway = errors.New("away")

// validator answers with f and counts.
type validator struct {
	calls atomic.Int64
	f     func(context.Context, keymanager.Query) (*keymanager.Verdict, error)
}

func (v *validator) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	v.calls.Add(1)
	return v.f(ctx, q)
}

func position(seq uint64) keymanager.Position {
	return keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: seq}
}

func query(value string) keymanager.Query {
	return keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: value}, API: "api-1"}
}

// clock is set by hand.
type clock struct{ now atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.now.Store(1_700_000_000_000_000_000)
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.now.Load()) }
func (c *clock) advance(d time.Duration) { c.now.Add(int64(d)) }

func TestOptions(t *testing.T) {
	next := &validator{}
	now, log := newClock().Now, slog.New(slog.DiscardHandler)
	for name, err := range map[string]error{
		"LRU without Next":            second(NewLRU(LRUOptions{Now: now})),
		"LRU without Now":             second(NewLRU(LRUOptions{Next: next})),
		"LRU with a negative size":    second(NewLRU(LRUOptions{Next: next, Now: now, Size: -1})),
		"Flight without Next":         second(NewFlight(FlightOptions{Logger: log})),
		"Flight without Logger":       second(NewFlight(FlightOptions{Next: next})),
		"Flight, negative timeout":    second(NewFlight(FlightOptions{Next: next, Logger: log, Timeout: -1})),
		"Cap without Next":            second(NewCap(CapOptions{Now: now})),
		"Cap with a negative maximum": second(NewCap(CapOptions{Next: next, Now: now, Calls: -1})),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }
