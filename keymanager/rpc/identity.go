package rpc

import (
	"context"
	"slices"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"tollgate/keymanager"
)

// method is one of the service, for the table of rights.
type method string

const (
	validateMethod method = "Validate"
	watchMethod    method = "Watch"
	followMethod   method = "Follow"
	reportMethod   method = "Report"
	healthMethod   method = "Health"
)

// rights is what each role may call. A role without a row may call nothing.
var rights = map[keymanager.Role][]method{
	keymanager.RoleAuthz: {validateMethod, watchMethod, followMethod, reportMethod, healthMethod},
	keymanager.RoleXDS:   {watchMethod, reportMethod, healthMethod},
}

// caller is who calls. On the same machine without TLS it is nobody by name,
// and may do everything.
type caller struct {
	peer  keymanager.Peer
	local bool
}

// identify reads who calls from the connection, and checks that he may.
func (s *Server) identify(ctx context.Context, m method) (caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, keymanager.Errorf(keymanager.KindForbidden, "the caller is not known")
	}
	info, encrypted := p.AuthInfo.(credentials.TLSInfo)
	if !encrypted {
		if !keymanager.SameMachine(p.Addr) {
			return caller{}, keymanager.Errorf(keymanager.KindForbidden, "a connection from another machine needs TLS with a certificate")
		}
		return caller{local: true}, nil
	}
	who, err := keymanager.VerifiedPeer(s.opts.TrustDomain, info.State)
	if err != nil {
		return caller{}, err
	}
	if !slices.Contains(rights[who.Role], m) {
		return caller{}, keymanager.Errorf(keymanager.KindForbidden, "%s may not call %s", who, string(m))
	}
	return caller{peer: who}, nil
}

// mayReport checks that a part reports what it is: an authz itself, an xds
// anything of its kind.
func (c caller) mayReport(s keymanager.GatewayState) error {
	if c.local {
		return nil
	}
	own := false
	switch c.peer.Role {
	case keymanager.RoleAuthz:
		own = s.Kind == keymanager.GatewayAuthz && s.ID == c.peer.Name && s.Group == c.peer.Group
	case keymanager.RoleXDS:
		own = s.Kind == keymanager.GatewayXDS
	}
	if !own {
		return keymanager.Errorf(keymanager.KindForbidden, "%s may not report for the %s %q of the group %q", c.peer, string(s.Kind), s.ID, s.Group)
	}
	return nil
}
