package xds

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// largeItems are n resources of different sizes, some of them removed or marked.
func largeItems(n int) []item {
	items := make([]item, n)
	for i := range items {
		c := &content{seq: uint64(i), version: uint64(i) * 0x1234567}
		if i%5 != 4 {
			c.value = make([]byte, i*i%3000)
			for j := range c.value {
				c.value[j] = byte(i + j)
			}
		}
		items[i] = item{entry: &entry{name: fmt.Sprint("resource-", i), now: c}, sent: c, marked: i%3 == 0}
	}
	return items
}

// What is encoded apart says the same as the message that the library would
// encode, at every size.
func TestWire(t *testing.T) {
	for _, n := range []int{0, 1, 5, 1500} {
		r := &response{kind: scopes, items: largeItems(n), version: 77, mark: []byte("\x3a\x03abc")}
		want, err := r.GetDeltaDiscoveryResponse()
		if err != nil {
			t.Fatal(err)
		}
		want.Nonce = "12"
		released := 0
		data, err := newCodec().Marshal(r.encode("12", func() { released++ }))
		if err != nil {
			t.Fatal(err)
		}
		raw := data.Materialize()
		data.Ref()
		data.Free()
		if released != 0 {
			t.Errorf("%d resources: released while it is used", n)
		}
		data.Free()
		if released != 1 {
			t.Errorf("%d resources: released %d times", n, released)
		}
		var got discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(want, &got) { // a diff of many takes long
			t.Errorf("%d resources: %s", n, cmp.Diff(want, &got, protocmp.Transform()))
		}
		r.apart = true
		if light, err := r.GetDeltaDiscoveryResponse(); err != nil || len(light.GetResources())+len(light.GetRemovedResources()) > 0 {
			t.Errorf("the library is given %d resources as well: %v", len(light.GetResources()), err)
		}
	}
}

// slowStream takes messages and does not write them yet.
type slowStream struct {
	grpc.ServerStream
	ctx   context.Context
	taken chan *wire
}

func (s *slowStream) Context() context.Context { return s.ctx }

func (s *slowStream) SendMsg(m any) error {
	s.taken <- m.(*wire)
	return nil
}

// However many Envoys come at once, largeSends of them are sent everything at a
// time; the next has its turn when one is written out, or gone.
func TestLargeResponsesTakeTurns(t *testing.T) {
	turns, taken := make(chan struct{}, largeSends), make(chan *wire)
	const streams = 5 * largeSends
	done := make(chan error, streams)
	var cancels []context.CancelFunc
	for range streams {
		ctx, cancel := context.WithCancel(t.Context())
		cancels = append(cancels, cancel)
		s := &slowStream{ctx: ctx, taken: taken}
		p := &paced{AggregatedDiscoveryService_DeltaAggregatedResourcesServer: s, turns: turns, large: &response{kind: clusters, items: largeItems(largeResponse)}}
		go func() { done <- p.Send(&discoveryv3.DeltaDiscoveryResponse{Nonce: "1"}) }()
	}
	next := func() *wire {
		select {
		case w := <-taken:
			return w
		case <-time.After(patience):
			t.Fatal("nobody has a turn")
			return nil
		}
	}
	var out []*wire
	for range streams {
		if len(out) == largeSends { // none before that
			out[0].data.Free()
			out = out[1:]
		}
		out = append(out, next())
		if n := len(turns); n > largeSends {
			t.Fatalf("%d are sent at a time", n)
		}
	}
	for range streams {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, cancel := range cancels { // the last ones are never written
		cancel()
	}
	for deadline := time.Now().Add(patience); len(turns) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d turns are never given back", len(turns))
		}
	}
}

// Send implements the stream of the service.
func (s *slowStream) Send(*discoveryv3.DeltaDiscoveryResponse) error {
	return errors.New("sent as it is")
}

// Recv implements the stream of the service.
func (s *slowStream) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	return nil, errors.New("not read")
}
