package authz

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// received is an encoded CheckRequest, reply an encoded CheckResponse. The
// codec hands them through: decoding a whole CheckRequest into objects costs
// more than everything else that a Check does.
type received struct{ message string }

type reply struct{ wire mem.BufferSlice }

func newReply(b []byte) *reply { return &reply{mem.BufferSlice{mem.SliceBuffer(b)}} }

// codec passes Checks through as bytes and treats every other message as the
// standard codec does: grpc.health.v1 is served beside it.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*reply); ok {
		return r.wire, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2. The one copy of a received message is
// made here; all of a Request's strings are parts of it.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*received)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	r.message = string(b.ReadOnlyData())
	b.Free()
	return nil
}

const serviceName = "envoy.service.auth.v3.Authorization"

// service describes envoy.service.auth.v3.Authorization.
var service = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}},
	Metadata:    "envoy/service/auth/v3/external_auth.proto",
}

//nolint:revive // the order that grpc.MethodDesc asks for
func handleCheck(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	r := new(received)
	if err := decode(r); err != nil {
		return nil, err // no message came
	}
	return server.(*Server).check(ctx, r.message), nil
}
