package xds

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

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
	return newNamedCounter(b, addr, "n", got, [kinds]map[string]string{})
}

// newNamedCounter connects as the node id that has resources already.
func newNamedCounter(b testing.TB, addr, id string, got chan<- struct{}, has [kinds]map[string]string) *counter {
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
		k.all[i] = make(chan int, 100000)
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, grpc.ForceCodecV2(skim{}))
	if err != nil {
		b.Fatal(err)
	}
	node := (&client{id: id, group: "default"}).node()
	for kind := range kinds {
		if err := s.SendMsg(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: kind.url(), InitialResourceVersions: has[kind]}); err != nil {
			b.Fatal(err)
		}
	}
	go func() {
		defer close(k.done)
		for {
			var m skimmed
			if err := s.RecvMsg(&m); err != nil {
				return
			}
			k.bytes += m.bytes
			kind, _ := kindOf(m.typeURL)
			if err := s.SendMsg(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.typeURL, ResponseNonce: m.nonce}); err != nil {
				return
			}
			select {
			case k.all[kind] <- m.resources:
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

// skimmed is what a counter reads of a response: what it costs to decode it is
// Envoy's, not ours.
type skimmed struct {
	typeURL, nonce   string
	resources, bytes int
}

// skim is the codec of a counter.
type skim struct{}

// Name implements encoding.CodecV2.
func (skim) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (skim) Marshal(v any) (mem.BufferSlice, error) {
	raw, err := proto.Marshal(v.(proto.Message))
	return mem.BufferSlice{mem.SliceBuffer(raw)}, err
}

// Unmarshal implements encoding.CodecV2. It copies nothing but the two names.
func (skim) Unmarshal(data mem.BufferSlice, v any) error {
	m := v.(*skimmed)
	m.bytes = data.Len()
	r := data.Reader()
	defer func() { _ = r.Close() }()
	for r.Remaining() > 0 {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		size, err := binary.ReadUvarint(r) // every field of a response is a string or a message
		if err != nil || tag&7 != 2 {
			return fmt.Errorf("field %d of type %d: %w", tag>>3, tag&7, err)
		}
		switch tag >> 3 {
		case 4, 5:
			text := make([]byte, size)
			if _, err := io.ReadFull(r, text); err != nil {
				return err
			}
			if tag>>3 == 4 {
				m.typeURL = string(text)
			} else {
				m.nonce = string(text)
			}
			continue
		case 2: // resources
			m.resources++
		}
		if _, err := r.Discard(int(size)); err != nil {
			return err
		}
	}
	return nil
}
