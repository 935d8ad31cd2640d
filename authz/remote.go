package authz

import (
	"crypto/tls"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"tollgate/keymanager"
)

// How long a connection from another machine lives. Envoy opens a new one and
// calls go on without a break: that spreads a fleet of gateways over the authz
// that there are, and asks for the peer's certificate again.
const (
	connectionAge   = 5 * time.Minute
	connectionGrace = 30 * time.Second // for calls that are under way
)

// Remote returns a server of ext_authz and grpc.health.v1 for gateways on other
// machines, beside GRPC and its Unix socket. Each call returns another one, for
// its owner to serve and to stop. Its callers are Envoys of this instance's own
// group, by certificates that config verifies (ClientCAs) and that name them
// (keymanager.ParsePeer): everybody else is refused in the handshake. TLS 1.3
// and a client's certificate are asked for whatever config says.
func (s *Server) Remote(config *tls.Config) (*grpc.Server, error) {
	switch {
	case config == nil || config.ClientCAs == nil && config.GetConfigForClient == nil:
		return nil, errors.New("authz: a remote listener needs certificates, and the CAs of its callers")
	case s.options.TrustDomain == "" || s.group == "":
		return nil, errors.New("authz: a remote listener needs TrustDomain and Group")
	}
	return s.serverFor(
		grpc.Creds(credentials.NewTLS(s.strict(config))),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace,
			// A peer that vanished without a word is noticed by this.
			Time: 15 * time.Second, Timeout: 10 * time.Second,
		}),
	), nil
}

// strict returns config with the check of who is calling.
func (s *Server) strict(config *tls.Config) *tls.Config {
	c := config.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	also := config.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error { // also of a resumed session
		if also != nil {
			if err := also(state); err != nil {
				return err
			}
		}
		return s.caller(state)
	}
	if choose := config.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err != nil || chosen == nil {
				return nil, err // nil: this one
			}
			chosen = chosen.Clone()
			chosen.GetConfigForClient = nil
			return s.strict(chosen), nil
		}
	}
	return c
}

// caller says whether the other end may ask for decisions.
func (s *Server) caller(state tls.ConnectionState) error {
	peer, err := keymanager.VerifiedPeer(s.options.TrustDomain, state)
	if err == nil && (peer.Role != keymanager.RoleGateway || peer.Group != s.group) {
		err = keymanager.Errorf(keymanager.KindForbidden, "%s is not a gateway of group %q", peer, s.group)
	}
	if err != nil {
		s.record.strangers.add()
		s.log.Warn("a caller of authz is refused: only gateways of its own group may ask", "error", err)
	}
	return err
}
