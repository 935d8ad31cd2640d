package envoytest

import (
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// WaitForAuthz changes a listener so that Envoy waits for authz for as long as
// the rig waits: on a busy machine half a second may pass before an authz that
// is well gets to run. Any other resource stays as it is.
func WaitForAuthz(t testing.TB, resource proto.Message) {
	t.Helper()
	l, ok := resource.(*listenerv3.Listener)
	if !ok {
		return
	}
	for _, chain := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
		for _, f := range chain.GetFilters() {
			change(t, f.GetTypedConfig(), func(m *hcmv3.HttpConnectionManager) {
				for _, h := range m.GetHttpFilters() {
					change(t, h.GetTypedConfig(), func(a *extauthzv3.ExtAuthz) {
						a.GetGrpcService().Timeout = durationpb.New(Patience)
						// also the time-out of each try
						a.GetGrpcService().GetRetryPolicy().GetRetryBackOff().MaxInterval = durationpb.New(Patience)
					})
				}
			})
		}
	}
}

// change changes what is packed, if it is of that type.
func change[T any, M interface {
	*T
	proto.Message
}](t testing.TB, packed *anypb.Any, fn func(M)) {
	t.Helper()
	m := M(new(T))
	if !packed.MessageIs(m) {
		return
	}
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	fn(m)
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
}
