//go:build !short

package cache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"tollgate/keymanager"
)

const (
	saysAway = "Redis fails or is slow"
	saysBack = "Redis answers again"
)

// TestFaultRedis holds the faults of Redis that every change must stand.
func TestFaultRedis(t *testing.T) {
	t.Run("F1 kill -9", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		g := newGateway(t, singleClient(t, server.Addr), redisKeys(t), k, nil)
		hot := names("hot", 50)
		g.passes(t, hot...)
		g.uses(t)
		known := k.calls.Load()
		server.Kill()
		g.passes(t, hot...)
		if k.calls.Load() != known {
			t.Error("hot tokens were asked for again")
		}
		g.bypasses(t)
		skipped := g.result(resultSkipped)
		g.passes(t, names("unknown", 50)...)
		if g.result(resultSkipped) < skipped+50 {
			t.Error("an open breaker lets look-ups through")
		}
		g.passes(t, hot...)
		server.Restart()
		g.uses(t)
		g.logged(t, saysAway)
		g.logged(t, saysBack)
	})
	t.Run("F4 hung", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		g := newGateway(t, singleClient(t, server.Addr), redisKeys(t), k, nil)
		g.passes(t, "hot")
		g.uses(t)
		server.Stop()
		g.opens(t)
		g.passes(t, names("more", 50)...)
		server.Cont()
		g.uses(t)
		g.logged(t, saysAway)
		g.logged(t, saysBack)
	})
	t.Run("F24 stale refill", testStaleRefill)
}

// held lets no SET through until it is released.
type held struct{ release chan struct{} }

func (held) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if commands[0].Name() == "set" {
			<-h.release
			ctx = context.WithoutCancel(ctx) // however long it was held
		}
		return next(ctx, commands)
	}
}

// testStaleRefill: between the key manager's answer and its way into Redis the
// token dies. What comes to Redis says that it lives; nobody believes it.
func testStaleRefill(t *testing.T) {
	server, k, keys := startRedis(t), newIssuer(), redisKeys(t)
	hold := held{make(chan struct{})}
	release := sync.OnceFunc(func() { close(hold.release) })
	first := singleClient(t, server.Addr)
	first.AddHook(hold)
	a := newGateway(t, first, keys, k, patient)
	b := newGateway(t, singleClient(t, server.Addr), keys, k, patient)
	t.Cleanup(release)
	a.passes(t, "dies", "changes", "lives")
	k.revoke(t, "dies")
	k.mu.Lock() // one application has all of them, and its subscription changes
	k.revoked["changes"] = true
	k.publish(t, keymanager.Event{Stale: &keymanager.Stale{Application: grantFor(1).Application.ID}})
	k.mu.Unlock()
	release()
	for _, value := range []string{"dies", "changes", "lives"} {
		p := keys.current.place(query(value))
		eventually(t, "value of "+value+" in Redis", func() bool { return server.Client().Exists(t.Context(), p.name).Val() == 1 })
	}
	calls := k.calls.Load()
	b.refuses(t, "dies")
	if b.result(resultHit) != 1 || k.calls.Load() != calls {
		t.Errorf("the dead token did not come from Redis (%s), which is what this is about", b.outcomes())
	}
	a.refuses(t, "dies")
	for _, g := range []*gateway{b, a} {
		g.refuses(t, "changes")
		g.passes(t, "lives")
		g.refuses(t, "dies", "changes")
	}
}

// TestColdKeyIsOneCall: 1,000 callers of one token that Redis does not have are
// one look-up there and one call of the key manager.
func TestColdKeyIsOneCall(t *testing.T) {
	server, k := startRedis(t), newIssuer()
	g := newGateway(t, singleClient(t, server.Addr), redisKeys(t), k, patient)
	begin := make(chan struct{})
	k.mu.Lock() // nobody is answered before all have asked
	var callers sync.WaitGroup
	for range 1000 {
		callers.Go(func() {
			<-begin
			g.passes(t, "cold")
		})
	}
	close(begin)
	await(t, &g.flight.joined, 999)
	k.mu.Unlock()
	callers.Wait()
	if n := k.calls.Load(); n != 1 || g.result(resultMiss) != 1 {
		t.Errorf("%d calls of the key manager, %s look-ups", n, g.outcomes())
	}
}

// opens asks until the breaker is open, as it must soon be before a Redis that
// does not answer, and no call may wait long for it.
func (g *gateway) opens(t testing.TB) {
	t.Helper()
	begun, n := time.Now(), 0
	for !g.breaker.isOpen() {
		n++
		first := time.Now()
		g.passes(t, fmt.Sprint("unknown", n), "hot")
		if d := time.Since(first); d > time.Second { // promised: 50 ms
			t.Errorf("call %d took %s", n, d)
		}
	}
	opened := time.Since(begun)
	t.Logf("open after %s and %d calls", opened, n)
	if opened > 4*time.Second { // promised: 0.2 s; the library's defaults take 10 s for one call
		t.Errorf("the breaker opened after %s", opened)
	}
}
