package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"
)

// benchEnvoy compares the whole chain through one worker of the real Envoy:
// CPU per request of Envoy and of what it asks, over Envoy alone. Envoy and
// authz share core 0, so that their CPU adds up; the router answers itself.
func benchEnvoy(ctx context.Context, out io.Writer, c *credentials, rounds int) error {
	binary, err := envoyBinary()
	if err != nil {
		return err
	}
	jwts, jwks, err := signedTokens(sampleTokens)
	if err != nil {
		return err
	}
	bare, authz, stop, err := yardsticks(ctx, c.dir)
	if err != nil {
		return err
	}
	defer stop()
	opaque, signed := httpRequests(c.sample()), httpRequests(jwts)
	rev := strconv.FormatUint(benchRev(), 10)
	var vs []variant
	for i, v := range []struct {
		name     string
		envoy    envoyVariant
		asked    *server
		requests [][]byte
	}{
		{"Envoy alone", envoyVariant{}, nil, opaque},
		{"jwt_authn ES256", envoyVariant{jwks: string(jwks)}, nil, signed},
		{"jwt_authn ES256, its cache full", envoyVariant{jwks: string(jwks), jwtCache: true}, nil, signed},
		{"ext_authz, stock settings, bare", envoyVariant{authzSocket: bare.socket, stock: true}, bare, opaque},
		{"ext_authz, our settings, bare", envoyVariant{authzSocket: bare.socket, api: string(benchAPI), rev: rev}, bare, opaque},
		{"ext_authz, our settings, authz", envoyVariant{authzSocket: authz.socket, api: string(benchAPI), rev: rev}, authz, opaque},
	} {
		s, err := startEnvoy(ctx, binary, c.dir, i, v.envoy)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		defer s.stop()
		o := loadOptions{Addr: s.addr(), Proto: "h1", Payloads: v.requests, InFlight: 64, Status: 200,
			Warm: 150 * time.Millisecond, Measure: 350 * time.Millisecond, PIDs: []int{s.pid()}}
		if v.asked != nil {
			o.PIDs = append(o.PIDs, v.asked.pid())
		}
		vs = append(vs, variant{v.name, o})
	}
	samples, err := compare(rounds, vs)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nEnd to end through one Envoy worker, HTTP/1.1, 64 connections")
	report(out, vs, samples, "Envoy", "authz")
	return nil
}
