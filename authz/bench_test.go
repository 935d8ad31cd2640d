package authz

import (
	"crypto/rand"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"tollgate/keymanager/token"
)

// benchRig is authz with everything on: real tags, scopes, subscription,
// metrics, and a verdict that is in the cache.
func benchRig(b *testing.B) (r *rig, message []byte) {
	file, err := token.NewTagKeys(rand.Reader)
	must(b, err)
	tags, err := token.ParseTagKeys(file)
	must(b, err)
	value, err := token.NewMinter(tags, rand.Reader).AccessToken()
	must(b, err)
	r = newRig(b, func(o *Options) { o.Tags = tags }).run(b)
	v := r.grant(nil)
	r.km.SetVerdict(keymanagerToken(value), "", v)
	message, err = proto.Marshal(call{
		path:       envoyPath + "/items/4711?units=metric&lang=en",
		extensions: map[string]string{"gw": "edge"},
		headers: []string{
			"authorization", "Bearer " + value, "accept", "application/json", "content-type", "application/json",
			"x-envoy-external-address", "192.0.2.7", "x-request-id", "7f5a1e02-9f4c-4b6e-8a6e-0f6d1d1e2c3b",
			"referer", "https://app.example.com/shop", "origin", "https://app.example.com",
		},
	}.message())
	must(b, err)
	return r, message
}

// BenchmarkDecide is the decision alone, on a hit.
func BenchmarkDecide(b *testing.B) {
	r, message := benchRig(b)
	var q Request
	if !q.parse(string(message)) {
		b.Fatal("malformed")
	}
	b.ReportAllocs()
	for b.Loop() {
		if d := r.server.decide(b.Context(), &q, time.Now(), r.server.validator); d.Reason != allowed {
			b.Fatal(d.Reason)
		}
	}
}

// BenchmarkCheck is everything between grpc-go's receiving and sending, on a
// hit: bytes to bytes, with metrics.
func BenchmarkCheck(b *testing.B) {
	r, message := benchRig(b)
	c := newCodec()
	one := func(b *testing.B) {
		answer, err := handleCheck(r.server, b.Context(), func(v any) error {
			return c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, v)
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if wire, err := c.Marshal(answer); err != nil || wire.Len() < 100 {
			b.Fatal(wire, err)
		}
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			one(b)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one(b)
			}
		})
	})
}
