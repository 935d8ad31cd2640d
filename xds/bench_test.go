package xds

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

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
				for b.Loop() {
					a := apis[i*7919%n]
					if what == "back end" {
						a.Production = []string{fmt.Sprintf("http://127.0.0.1:%d/v1", 1+i%60000)}
					}
					w.put(a)
					w.settle()
					i++
				}
				b.ReportMetric(float64(p.size)/float64(i), "resource-B/op")
			})
		}
	}
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
			for b.Loop() {
				k := newCounter(b, r.addr, nil)
				k.waitFor(n)
				k.end()
			}
			b.ReportMetric(built.Seconds(), "build-s")
			b.ReportMetric(heap()-h-catalogHeap, "heap-MB")
		})
	}
}

// counter is a client that answers without looking.
type counter struct {
	b      testing.TB
	cancel context.CancelFunc
	all    [kinds]chan int
	done   chan struct{}
	bytes  int
}

func newCounter(b testing.TB, addr string, got chan<- struct{}) *counter {
	b.Helper()
	// Windows as wide as Envoy's.
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)),
		grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(24<<20),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", a)
		}))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &counter{b: b, done: make(chan struct{}), cancel: func() { cancel(); _ = conn.Close() }}
	for i := range k.all {
		k.all[i] = make(chan int, 1000000)
	}
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		b.Fatal(err)
	}
	node := (&client{id: "n", group: "default"}).node()
	for kind := range kinds {
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: kind.url()}); err != nil {
			b.Fatal(err)
		}
	}
	go func() {
		defer close(k.done)
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			k.bytes += proto.Size(m)
			kind, _ := kindOf(m.GetTypeUrl())
			if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}); err != nil {
				return
			}
			select {
			case k.all[kind] <- len(m.GetResources()):
			default:
			}
			if got != nil && kind == scopes {
				got <- struct{}{}
			}
		}
	}()
	b.Cleanup(k.end)
	return k
}

func (k *counter) waitFor(n int) {
	for _, kind := range []kind{clusters, scopes} {
		for have := 0; have < n; {
			select {
			case more := <-k.all[kind]:
				have += more
			case <-time.After(patience):
				k.b.Fatalf("%d of %d %s", have, n, kind)
			}
		}
	}
}

func (k *counter) end() {
	k.cancel()
	<-k.done
}
