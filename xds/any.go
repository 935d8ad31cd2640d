package xds

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// deterministic makes two builds of one message equal byte for byte: maps are
// encoded in random order otherwise, and every rebuild would push everything.
var deterministic = proto.MarshalOptions{Deterministic: true}

// packer puts messages into Anys, which Envoy's rules for the message around
// them do not reach into, so each is checked here. It keeps the first error:
// builders read like the resource they build.
type packer struct{ err error }

func (p *packer) pack(m proto.Message) *anypb.Any {
	out := new(anypb.Any)
	err := validate(m)
	if err == nil {
		err = anypb.MarshalFrom(out, m, deterministic) // fails on a string that is not UTF-8
	}
	if err != nil && p.err == nil {
		p.err = err
	}
	return out
}

// validate checks the proto rules of m.
func validate(m proto.Message) error {
	v, ok := m.(interface{ ValidateAll() error })
	if !ok {
		return fmt.Errorf("%T has no rules to check", m)
	}
	if err := v.ValidateAll(); err != nil {
		return fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// encode marshals a resource. Its version is the hash of its content: every
// replica builds the same one, so an Envoy that changes over is sent nothing.
func encode(m proto.Message) (value []byte, version uint64, err error) {
	if value, err = deterministic.Marshal(m); err != nil {
		return nil, 0, err
	}
	return value, hash64(value), nil
}

// hash64 is the first half of a cryptographic hash: nobody can choose two
// contents of an API with the same one.
func hash64(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

func uint32Value(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

func millis(n int64) *durationpb.Duration {
	return &durationpb.Duration{Seconds: n / 1000, Nanos: int32(n%1000) * 1e6}
}

func stringStruct(key, value string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewStringValue(value)}}
}
