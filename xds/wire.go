package xds

import (
	"context"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// A response is large from largeResponse resources. It is written without
	// copies of what it carries, and largeSends of them at a time: each still
	// costs more than a hundred bytes for every resource until it is out.
	largeResponse = 1000
	largeSends    = 4
	// largeWait is how long one that an Envoy does not read keeps its turn.
	largeWait = 10 * time.Second
)

// codec writes large responses, and leaves all else to the standard codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if w, ok := v.(*wire); ok {
		return w.data, nil
	}
	return c.CodecV2.Marshal(v)
}

// wire is an encoded DeltaDiscoveryResponse.
type wire struct{ data mem.BufferSlice }

// Numbers of fields: envoy/service/discovery/v3/discovery.proto, and
// google/protobuf/any.proto.
const (
	responseVersion   = protowire.Number(1)
	responseResources = protowire.Number(2)
	responseTypeURL   = protowire.Number(4)
	responseNonce     = protowire.Number(5)
	responseRemoved   = protowire.Number(6)
	resourceVersion   = protowire.Number(1)
	resourceValue     = protowire.Number(2)
	resourceName      = protowire.Number(3)
	anyTypeURL        = protowire.Number(1)
	anyValue          = protowire.Number(2)
)

func sizeText(n protowire.Number, size int) int {
	return protowire.SizeTag(n) + protowire.SizeBytes(size)
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendHead(b []byte, n protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.BytesType), uint64(size))
}

// encode writes the response under a nonce. The contents are parts of it as they
// are; what stands between them is in one piece of memory. done is called when
// all of it has been written or thrown away.
func (r *response) encode(nonce string, done func()) *wire {
	url := r.kind.url()
	space := 64 + len(url) + len(nonce)
	for _, it := range r.items {
		space += len(it.entry.name) + len(url) + 64
	}
	heads := make([]byte, 0, space)
	heads = appendText(heads, responseVersion, strconv.FormatUint(r.version, 10))
	heads = appendText(heads, responseTypeURL, url)
	heads = appendText(heads, responseNonce, nonce)
	data := make(mem.BufferSlice, 0, 2*len(r.items)+2)
	begun := 0
	for _, it := range r.items {
		value := it.sent.value
		if value == nil {
			heads = appendText(heads, responseRemoved, it.entry.name)
			continue
		}
		size, version := len(value), versionString(it.sent.version)
		if it.marked {
			size += len(r.mark)
		}
		inner := sizeText(anyTypeURL, len(url)) + sizeText(anyValue, size)
		heads = appendHead(heads, responseResources, sizeText(resourceName, len(it.entry.name))+sizeText(resourceVersion, len(version))+sizeText(resourceValue, inner))
		heads = appendText(heads, resourceName, it.entry.name)
		heads = appendText(heads, resourceVersion, version)
		heads = appendHead(heads, resourceValue, inner)
		heads = appendText(heads, anyTypeURL, url)
		heads = appendHead(heads, anyValue, size)
		data = append(data, mem.SliceBuffer(heads[begun:]), mem.SliceBuffer(value))
		begun = len(heads)
		if it.marked {
			data = append(data, mem.SliceBuffer(r.mark))
		}
	}
	return &wire{append(data, released(heads[begun:], done))}
}

// released returns a buffer that calls done when it is freed.
func released(b []byte, done func()) mem.Buffer {
	own := make([]byte, len(b), max(len(b), 2<<10)) // a small one would not be counted
	copy(own, b)
	return mem.NewBuffer(&own, onRelease(done))
}

// onRelease is a pool of one buffer.
type onRelease func()

// Get implements mem.BufferPool.
func (onRelease) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put implements mem.BufferPool.
func (f onRelease) Put(*[]byte) { f() }

// paced is a stream that waits for its turn to read what an Envoy has, and to
// send a large response.
type paced struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	turns chan struct{}
	large *response // goes out next, instead of the empty one that is handed to Send

	firsts   chan struct{}
	compared func() // ends the turn at the first requests; nil = not begun
}

type pacedKey struct{}

// Context returns that of the stream, in which the callbacks find p.
func (p *paced) Context() context.Context {
	return context.WithValue(p.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Context(), pacedKey{}, p)
}

// Send implements stream.DeltaStream.
func (p *paced) Send(r *discoveryv3.DeltaDiscoveryResponse) error {
	large := p.large
	if large == nil {
		return p.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Send(r)
	}
	p.large = nil
	ctx := p.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Context()
	select {
	case p.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	over := sync.OnceFunc(func() { <-p.turns })
	late := time.AfterFunc(largeWait, over)
	ended := context.AfterFunc(ctx, over)
	return p.SendMsg(large.encode(r.GetNonce(), func() {
		late.Stop()
		ended()
		over()
	}))
}
