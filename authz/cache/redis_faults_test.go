//go:build faults

package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"tollgate/authz/cache/redistest"
	"tollgate/keymanager"
)

// newProxy starts a proxy at listen before upstream that can spoil what passes.
func newProxy(t testing.TB, listen, upstream string) *toxiproxy.Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "redis", listen, upstream)
	eventually(t, "proxy", func() bool { return p.Start() == nil })
	t.Cleanup(p.Stop)
	return p
}

// spoil adds a toxic: its type, "upstream" or "downstream", and its attributes
// as JSON.
func spoil(t testing.TB, p *toxiproxy.Proxy, kind, stream, attributes string) {
	t.Helper()
	json := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"attributes":%s}`, kind+stream, kind, stream, attributes)
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(json)); err != nil {
		t.Fatal(err)
	}
}

// heal puts a proxy that spoils nothing in the place of p, which does not wait
// for connections that hang, as taking a toxic away does.
func heal(t testing.TB, p *toxiproxy.Proxy) {
	t.Helper()
	p.Stop()
	newProxy(t, p.Listen, p.Upstream)
}

const anyPort = "127.0.0.1:0"

// TestFaultRedisMatrix is every other fault of Redis.
func TestFaultRedisMatrix(t *testing.T) {
	t.Run("F2 restart empty", func(t *testing.T) {
		server, k, keys := startRedis(t), newIssuer(), redisKeys(t)
		a := newGateway(t, singleClient(t, server.Addr), keys, k, nil)
		b := newGateway(t, singleClient(t, server.Addr), keys, k, nil)
		dead, live := names("dead", 100), names("live", 20)
		a.passes(t, append(dead, live...)...)
		for _, value := range dead {
			k.revoke(t, value)
		}
		server.Kill()
		a.refuses(t, dead...)
		server.Restart()
		if n := server.Client().DBSize(t.Context()).Val(); n != 0 {
			t.Fatalf("%d keys are there after the restart", n)
		}
		for _, g := range []*gateway{a, b} {
			g.refuses(t, dead...)
			g.passes(t, live...)
			g.uses(t)
			g.refuses(t, dead...)
		}
	})
	t.Run("F3 restart with an old RDB", func(t *testing.T) {
		server, k, keys := startRedis(t), newIssuer(), redisKeys(t)
		a := newGateway(t, singleClient(t, server.Addr), keys, k, patient)
		dead := names("dead", 100)
		a.passes(t, dead...)
		a.written(t, 100)
		if err := server.Client().Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for _, value := range dead {
			k.revoke(t, value)
		}
		server.Kill()
		server.Restart()
		if n := server.Client().DBSize(t.Context()).Val(); n != 100 {
			t.Fatalf("%d keys are there after the restart, want 100", n)
		}
		b := newGateway(t, singleClient(t, server.Addr), keys, k, patient)
		calls := k.calls.Load()
		b.refuses(t, dead...)
		if b.result(resultHit) != 100 || k.calls.Load() != calls {
			t.Errorf("what was saved was not used: %s", b.outcomes())
		}
		a.refuses(t, dead...)
	})
	t.Run("F4 hung, the client's defaults", func(t *testing.T) {
		server := startRedis(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr})
		defer client.Close()
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		server.Stop()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := client.Get(ctx, "x").Err()
		d := time.Since(begun)
		t.Logf("a call with 50 ms to go took %s: %v", d, err)
		if d < time.Second {
			t.Errorf("the library itself left after %s: see whether our precautions are still needed", d)
		}
	})
	t.Run("F5 slow, 30 ms", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		p := newProxy(t, anyPort, server.Addr)
		spoil(t, p, "latency", "downstream", `{"latency":30}`)
		g := newGateway(t, singleClient(t, p.Listen), redisKeys(t), k, func(r *redisRig) { r.timeout = MaxRedisTimeout })
		for range 20 {
			g.uses(t)
		}
	})
	t.Run("F5 slow, 200 ms", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		p := newProxy(t, anyPort, server.Addr)
		g := newGateway(t, singleClient(t, p.Listen), redisKeys(t), k, nil)
		g.uses(t)
		spoil(t, p, "latency", "downstream", `{"latency":200}`)
		g.bypasses(t)
		hits := g.result(resultHit)
		g.passes(t, names("slow", 20)...)
		if g.result(resultHit) != hits {
			t.Error("a Redis that needs 200 ms was waited for")
		}
		heal(t, p)
		g.uses(t)
		g.logged(t, saysAway)
		g.logged(t, saysBack)
	})
	t.Run("F6 silent drop", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		wire := newSilentWire(t, server.Addr)
		client := singleClient(t, wire.addr())
		g := newGateway(t, client, redisKeys(t), k, nil)
		g.passes(t, "hot")
		g.uses(t)
		wire.drop()
		g.opens(t)
		g.passes(t, append(names("dropped", 50), "hot")...)
		if n := client.PoolStats().TotalConns; n > DefaultRedisPoolSize {
			t.Errorf("%d connections, want %d at most", n, DefaultRedisPoolSize)
		}
		wire.heal()
		g.uses(t)
		eventually(t, "the end of vain attempts to connect", func() bool { // each within a second
			stacks := make([]byte, 1<<20)
			return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("queuedNewConn"))
		})
		g.logged(t, saysAway)
		g.logged(t, saysBack)
	})
	for name, toxic := range map[string][3]string{
		"F7 reset":             {"reset_peer", "downstream", `{"timeout":0}`},
		"F7 reset in a while":  {"reset_peer", "upstream", `{"timeout":3}`},
		"F7 slices of 1 byte":  {"slicer", "downstream", `{"average_size":1,"size_variation":0,"delay":10}`},
		"F7 cut mid-value":     {"limit_data", "downstream", `{"bytes":150}`},
		"F7 cut mid-batch":     {"limit_data", "downstream", `{"bytes":1500}`},
		"F7 cut while sending": {"limit_data", "upstream", `{"bytes":40}`},
	} {
		t.Run(name, func(t *testing.T) {
			server, k, keys := startRedis(t), newIssuer(), redisKeys(t)
			values := names("value", 200)
			newGateway(t, singleClient(t, server.Addr), keys, k, patient).passes(t, values...)
			p := newProxy(t, anyPort, server.Addr)
			g := newGateway(t, singleClient(t, p.Listen), keys, k, nil)
			spoil(t, p, toxic[0], toxic[1], toxic[2])
			done := make(chan struct{}) // decide checks that each verdict is the right one
			for part := range 8 {
				go func() {
					defer func() { done <- struct{}{} }()
					g.passes(t, values[part*25:(part+1)*25]...)
				}()
			}
			for range 8 {
				<-done
			}
			t.Log(g.outcomes())
			if g.result(resultDamaged) > 0 {
				t.Error("half a value came out of the client as a value")
			}
			heal(t, p)
			g.uses(t)
		})
	}
	t.Run("F8 full", testFull)
	t.Run("F9 FLUSHALL", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		g := newGateway(t, singleClient(t, server.Addr), redisKeys(t), k, patient)
		q := query("t")
		g.ask(t, q)
		g.written(t, 1)
		server.Client().FlushAll(t.Context())
		if v := g.ask(t, q); v.TokenID != tokenID("t") || g.result(resultMiss) != 2 {
			t.Errorf("%v, %s", v, g.outcomes())
		}
		g.uses(t)
	})
	t.Run("F9 lies", testLies)
	t.Run("F9 100,000 foreign keys", func(t *testing.T) {
		server, k := startRedis(t), newIssuer()
		g := newGateway(t, singleClient(t, server.Addr), redisKeys(t), k, patient)
		for batch := range 100 {
			if _, err := server.Client().Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				for i := range 1000 {
					pipe.Set(t.Context(), fmt.Sprint(RedisPrefix, rand.Text()[:24-i%2]), rand.Text(), 0)
				}
				return nil
			}); err != nil {
				t.Fatal(batch, err)
			}
		}
		g.passes(t, names("t", 200)...)
		g.uses(t)
		if g.result(resultDamaged) != 0 {
			t.Error(g.outcomes())
		}
	})
}

// testFull: a Redis that takes no more still gives what it has, and failures to
// write are nothing that is remembered.
func testFull(t *testing.T) {
	server, k := redistest.Start(t, redistest.Options{MaxMemory: "3mb"}), newIssuer()
	g := newGateway(t, singleClient(t, server.Addr), redisKeys(t), k, patient)
	q := query("before")
	g.ask(t, q)
	g.written(t, 1)
	for i := 0; server.Client().Set(t.Context(), fmt.Sprint("filler", i), strings.Repeat("x", 1<<16), 0).Err() == nil; i++ {
	}
	for i := 0; server.Client().Set(t.Context(), fmt.Sprint("small", i), "x", 0).Err() == nil; i++ {
	}
	eventually(t, "failed write", func() bool {
		g.passes(t, rand.Text())
		return g.figures.writes[writeFailed].Load() > 0
	})
	hits := g.result(resultHit)
	if g.ask(t, q); g.result(resultHit) != hits+1 {
		t.Errorf("what Redis has is not used: %s", g.outcomes())
	}
	g.logged(t, "Redis is full")
	if g.breaker.isOpen() {
		t.Error("a full Redis is not used any more")
	}
	k.away.Store(true)
	for range 3 {
		if err := g.decide(t, "error"); err == nil || keymanager.KindOf(err) == keymanager.KindNotFound {
			t.Errorf("without a key manager: %v", err)
		}
	}
	k.away.Store(false)
	g.passes(t, "error")
}

// testLies: whatever stands in a place that we did not write there is a miss
// and an alarm.
func testLies(t *testing.T) {
	server, k, keys := startRedis(t), newIssuer(), redisKeys(t)
	writer := newGateway(t, singleClient(t, server.Addr), keys, k, patient)
	at := func(value string) string { return keys.current.place(query(value)).name }
	admin := server.Client()
	bytesOf := func(value string) []byte {
		v, err := admin.Get(t.Context(), at(value)).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	writer.passes(t, "a", "b")
	writer.written(t, 2)
	a, b := bytesOf("a"), bytesOf("b")
	stranger := newGateway(t, singleClient(t, startRedis(t).Addr), redisKeys(t), k, patient)
	foreign := stranger.keys.current.place(query("a"))
	sealed, err := foreign.seal(nil, (&stored{time.Now().Add(time.Hour), *liveVerdict(10)}).append(nil), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int, by byte) []byte {
		v := append([]byte(nil), a...)
		v[i] ^= by
		return v
	}
	for name, lie := range map[string]any{
		"another's":          b,
		"cut":                a[:len(a)-1],
		"cut to the header":  a[:headerLength],
		"longer":             append(append([]byte(nil), a...), 0),
		"another version":    changed(0, 3),
		"another key id":     changed(1, 3),
		"another nonce":      changed(2, 1),
		"another byte":       changed(len(a)/2, 1),
		"another tag":        changed(len(a)-1, 1),
		"sealed by another":  sealed,
		"text":               `{"reason":"active"}`,
		"large":              strings.Repeat("x", 1<<20),
		"of another type":    nil,
		"zeros":              make([]byte, len(a)),
		"of version 0":       append([]byte{0}, a[1:]...),
		"sealed, but no use": mustSeal(t, keys, "a", []byte{1, 2, 3}),
	} {
		g := newGateway(t, singleClient(t, server.Addr), keys, k, patient)
		if lie == nil {
			admin.Del(t.Context(), at("a"))
			admin.RPush(t.Context(), at("a"), "x")
		} else if err := admin.Set(t.Context(), at("a"), lie, 0).Err(); err != nil {
			t.Fatal(err)
		}
		calls := k.calls.Load()
		g.passes(t, "a")
		if g.result(resultDamaged) != 1 || k.calls.Load() != calls+1 {
			t.Errorf("%s: %s, %d calls", name, g.outcomes(), k.calls.Load()-calls)
		}
		g.logged(t, "a value in Redis is damaged")
		g.written(t, 1) // and it is mended
		if g.Redis.Validate(t.Context(), query("a")); g.result(resultHit) != 1 {
			t.Errorf("%s: not mended: %s", name, g.outcomes())
		}
	}
}

func mustSeal(t testing.TB, keys *RedisKeys, value string, plain []byte) []byte {
	t.Helper()
	p := keys.current.place(query(value))
	sealed, err := p.seal(nil, plain, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}
