//go:build !short

package cache

import (
	"fmt"
	"testing"

	"tollgate/authz/cache/redistest"
	"tollgate/keymanager"
)

// BenchmarkRedisHit is a verdict that comes from Redis, by way of a connection
// and by who asks at the same time.
func BenchmarkRedisHit(b *testing.B) {
	server := redistest.Start(b, redistest.Options{})
	for name, address := range map[string]string{"tcp": server.Addr, "unix": server.Socket} {
		for _, callers := range []int{1, 8, 32} { // times GOMAXPROCS
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				r := newRedisRig(b, address, redisKeys(b), always(liveVerdict(1)))
				var queries []keymanager.Query
				for i := range 1000 {
					queries = append(queries, query(fmt.Sprintf("tgat_%065d", i)))
					r.ask(b, queries[i])
				}
				r.written(b, 1000)
				r.calls.calls.Store(0)
				b.ReportAllocs()
				b.SetParallelism(callers)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if _, err := r.Validate(b.Context(), queries[i%len(queries)]); err != nil {
							b.Error(err)
						}
					}
				})
				b.StopTimer()
				if n := r.calls.calls.Load(); n != 0 {
					b.Errorf("%d were no hits: %s", n, r.outcomes())
				}
			})
		}
	}
}

// BenchmarkRedisValue is what a hit costs apart from Redis.
func BenchmarkRedisValue(b *testing.B) {
	keys, q := redisKeys(b), query(fmt.Sprintf("tgat_%065d", 1))
	p := keys.current.place(q)
	plain := (&stored{verdict: *liveVerdict(1)}).append(nil)
	value, err := p.seal(nil, plain, zeros{})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bytes", len(value))
	b.ReportAllocs()
	for b.Loop() {
		p := keys.current.place(q)
		plain, err := p.open(plain[:0], value)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := decodeStored(plain); err != nil {
			b.Fatal(err)
		}
	}
}
