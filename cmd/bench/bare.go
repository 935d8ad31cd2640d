package main

import (
	"context"
	"net"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

// bare is the reference that authz is compared with: ext_authz on stock grpc-go
// that answers OK to everything.
type bare struct {
	authv3.UnimplementedAuthorizationServer
}

var bareOK = &authv3.CheckResponse{Status: &status.Status{},
	HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}

func (bare) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return bareOK, nil
}

func serveBare(ctx context.Context, l net.Listener) error {
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, bare{})
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(l)
}
