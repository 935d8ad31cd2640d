package xds

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"tollgate/keymanager"
)

// benchWorld is a group of n APIs, one for each segment, with one Envoy that
// has them all.
func benchWorld(b *testing.B, n int) (*world, []*keymanager.API) {
	b.Helper()
	w := newWorld(b, 0)
	apis := make([]*keymanager.API, n)
	for i := range apis {
		apis[i] = api(fmt.Sprintf("api%06d", i), fmt.Sprintf("http://10.%d.%d.%d:8080/v1", i>>16, i>>8&255, i&255))
	}
	w.submit(delivery{whole: true, apis: apis})
	w.g.step()
	return w, apis
}

// quickPeer answers without looking, and counts bytes.
func quickPeer(w *world) *peer {
	p := newPeer(w.g.log)
	p.refuses = func(kind, []byte) bool { return false }
	p.quick = true
	w.peers = append(w.peers, p)
	w.connectAll()
	w.settle()
	return p
}

// One API changed among n: what it costs the group, the log and one stream,
// without the network. It does not grow with n.
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		for _, what := range []string{"routes", "back end"} {
			b.Run(fmt.Sprintf("%s/apis=%d", what, n), func(b *testing.B) {
				w, apis := benchWorld(b, n)
				p := quickPeer(w)
				p.size = 0
				b.ReportAllocs()
				i := 0
				used := cpu(b)
				for b.Loop() {
					a := apis[i*7919%n]
					if what == "back end" {
						a.Production = []string{fmt.Sprintf("http://127.0.0.1:%d/v1", 1+i%60000)}
					}
					w.put(a)
					w.settle()
					i++
				}
				b.ReportMetric(float64(cpu(b)-used)/float64(i), "cpu-ns/op")
				b.ReportMetric(float64(p.size)/float64(i), "resource-B/op")
			})
		}
	}
}

// One API changed of 10,000 that are versions of one context: the whole table is
// built, proved and sent again.
func BenchmarkOneTable(b *testing.B) {
	const n = 10000
	w := newWorld(b, 0)
	apis := make([]*keymanager.API, n)
	for i := range apis {
		apis[i] = api(fmt.Sprintf("api%06d", i), "http://127.0.0.1:8080/v1")
		apis[i].Context, apis[i].Version = "/table", fmt.Sprint("2.", i)
	}
	w.submit(delivery{whole: true, apis: apis})
	w.g.step()
	p := quickPeer(w)
	p.size = 0
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		a := apis[i*7919%n]
		a.Production = []string{fmt.Sprintf("http://127.0.0.1:8080/v%d", i)}
		w.put(a)
		w.settle()
		i++
	}
	b.ReportMetric(float64(p.size)/float64(i), "resource-B/op")
}

// cpu is the processor time that this process has had, all threads and the
// collector's included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The same through the catalog, go-control-plane's server and gRPC on loopback,
// until the client has the table; with many clients, until all have it.
func BenchmarkChangeArrives(b *testing.B) {
	for _, bb := range []struct{ apis, streams int }{{1000, 1}, {10000, 1}, {100000, 1}, {10000, 20}} {
		b.Run(fmt.Sprintf("apis=%d/streams=%d", bb.apis, bb.streams), func(b *testing.B) {
			c := newCatalog()
			apis := make([]*keymanager.API, bb.apis)
			for i := range apis {
				apis[i] = api(fmt.Sprintf("api%06d", i), "http://127.0.0.1:8080/v1")
				c.put(apis[i])
			}
			c.log = nil // what happened before the snapshot
			r := serve(b, c).waitReady()
			got := make(chan struct{}, 100)
			var clients []*counter
			for range bb.streams {
				clients = append(clients, newCounter(b, r.addr, got))
			}
			for _, k := range clients {
				k.waitFor(bb.apis)
			}
			r.waitConfirmed(keymanager.Position{Epoch: c.epoch, Seq: c.seq})
			for len(got) > 0 {
				<-got
			}
			before := clients[0].bytes
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.put(apis[i*7919%bb.apis])
				for range clients {
					<-got
				}
				i++
			}
			b.ReportMetric(float64(clients[0].bytes-before)/float64(i), "response-B/op")
		})
	}
}

// The first push of everything to a new Envoy: time until the client has it all,
// and what the server holds in memory.
func BenchmarkFirstPush(b *testing.B) {
	for _, n := range []int{10000, 100000} {
		b.Run(fmt.Sprintf("apis=%d", n), func(b *testing.B) {
			heap := func() float64 {
				runtime.GC() // twice: pools keep their buffers for one
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return float64(m.HeapAlloc) / 1e6
			}
			h := heap()
			c := newCatalog()
			for i := range n {
				c.put(api(fmt.Sprintf("api%06d", i), "http://127.0.0.1:8080/v1"))
			}
			c.log = nil
			catalogHeap := heap() - h
			start := time.Now()
			r := serve(b, c).waitReady()
			built := time.Since(start)
			runtime.GC()
			debug.FreeOSMemory()
			most := peak()
			for node := 0; b.Loop(); node++ { // another one each time: one that comes all the time is refused
				k := newNamedCounter(b, r.addr, fmt.Sprint("n", node), nil, [kinds]map[string]string{})
				k.waitFor(n)
				k.end()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
			b.ReportMetric(most(), "peak-MB")
			b.ReportMetric(built.Seconds(), "build-s")
			b.ReportMetric(heap()-h-catalogHeap, "heap-MB")
		})
	}
}

// peak watches what this process has from the system, in MB, until it is read.
func peak() (read func() float64) {
	stop, result := make(chan struct{}), make(chan float64)
	go func() {
		var most uint64
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.Sys-m.HeapReleased)
			select {
			case <-stop:
				result <- float64(most) / 1e6
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 {
		close(stop)
		return <-result
	}
}

// Envoys that come back at once and have everything: what the comparison of
// what each says it has costs in time and memory.
func BenchmarkReconnect(b *testing.B) {
	for _, bb := range []struct{ apis, streams int }{{10000, 50}, {100000, 10}, {100000, 50}} {
		b.Run(fmt.Sprintf("apis=%d/streams=%d", bb.apis, bb.streams), func(b *testing.B) {
			c := newCatalog()
			for i := range bb.apis {
				c.put(api(fmt.Sprintf("api%06d", i), "http://127.0.0.1:8080/v1"))
			}
			c.log = nil
			r := serve(b, c).waitReady()
			var has [kinds]map[string]string
			for k := range kinds {
				has[k] = r.current(k)
			}
			runtime.GC()
			debug.FreeOSMemory()
			most := peak()
			for b.Loop() {
				var clients []*counter
				for i := range bb.streams {
					clients = append(clients, newNamedCounter(b, r.addr, fmt.Sprint("n", i), nil, has))
				}
				for _, k := range clients {
					for _, kind := range []kind{clusters, scopes} { // an empty answer
						select {
						case n := <-k.all[kind]:
							if n != 0 {
								b.Fatalf("%d resources are sent again", n)
							}
						case <-time.After(2 * patience):
							b.Fatal("no answer")
						}
					}
				}
				for _, k := range clients {
					k.end()
				}
			}
			b.ReportMetric(most(), "peak-MB")
		})
	}
}
