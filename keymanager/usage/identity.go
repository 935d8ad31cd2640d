package usage

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tollgate/keymanager"
)

// identify reads who opens a stream from its connection: a gateway by its
// certificate. On the same machine without TLS it is nobody by name (the zero
// Peer), and may say who it is.
func identify(ctx context.Context, trustDomain string) (keymanager.Peer, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return keymanager.Peer{}, status.Error(codes.PermissionDenied, "the caller is not known")
	}
	info, encrypted := p.AuthInfo.(credentials.TLSInfo)
	if !encrypted {
		if !keymanager.SameMachine(p.Addr) {
			return keymanager.Peer{}, status.Error(codes.PermissionDenied, "a connection from another machine needs TLS with a certificate")
		}
		return keymanager.Peer{}, nil
	}
	who, err := keymanager.VerifiedPeer(trustDomain, info.State)
	if err != nil {
		return keymanager.Peer{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if who.Role != keymanager.RoleGateway {
		return keymanager.Peer{}, status.Errorf(codes.PermissionDenied, "%s is no gateway and has no calls to tell of", who)
	}
	return who, nil
}

// node checks what the first message says of itself against the certificate.
func node(who keymanager.Peer, n *corev3.Node) (keymanager.Peer, error) {
	says := keymanager.Peer{Role: keymanager.RoleGateway, Group: n.GetCluster(), Name: n.GetId()}
	switch {
	case says.Name == "":
		return says, status.Error(codes.InvalidArgument, "the first message names no node")
	case !short(says.Name, maxText) || !short(says.Group, maxText):
		return says, status.Error(codes.InvalidArgument, "the name of the node is too long, or no text")
	case who != (keymanager.Peer{}) && says != who:
		return says, status.Errorf(codes.PermissionDenied, "node %q of group %q has the certificate of node %q of group %q",
			says.Name, says.Group, who.Name, who.Group)
	}
	return says, nil
}
