package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"

	"tollgate/envoy"
	"tollgate/keymanager/token"
)

// benchCheck compares Check on an LRU hit with a bare server that answers OK.
func benchCheck(ctx context.Context, out io.Writer, c *credentials, rounds int) error {
	payloads, err := checkRequests(c.sample(), string(benchAPI), benchRev())
	if err != nil {
		return err
	}
	bare, authz, stop, err := yardsticks(ctx, c.dir)
	if err != nil {
		return err
	}
	defer stop()
	for _, n := range []int{1, 64} {
		fmt.Fprintf(out, "\nCheck, every token cached, %d in flight, one connection, one core\n", n)
		vs := []variant{
			{"bare grpc-go", window(bare, payloads, n, "")},
			{"authz", window(authz, payloads, n, envoy.HeaderApplication)},
		}
		samples, err := compare(rounds, vs)
		if err != nil {
			return err
		}
		report(out, vs, samples, "server")
	}
	fmt.Fprintf(out, "resident: bare %.0f MB, authz with %d cached tokens and %d APIs %.0f MB\n",
		residentMB(bare.pid()), benchTokens, benchAPIs, residentMB(authz.pid()))
	return nil
}

// benchMiss compares what is not in the cache: forged tokens (wrong tag) and
// random strings end before any cache. The answer is a refusal.
func benchMiss(ctx context.Context, out io.Writer, c *credentials, rounds int) error {
	key, err := token.NewTagKeys(rand.Reader)
	if err != nil {
		return err
	}
	foreign, err := token.ParseTagKeys(key)
	if err != nil {
		return err
	}
	minter := token.NewMinter(foreign, rand.Reader)
	forged, random := make([]string, sampleTokens), make([]string, sampleTokens)
	for i := range forged {
		if forged[i], err = minter.AccessToken(); err != nil {
			return err
		}
		random[i] = rand.Text() + rand.Text()
	}
	bare, authz, stop, err := yardsticks(ctx, c.dir)
	if err != nil {
		return err
	}
	defer stop()
	vs := make([]variant, 0, 4)
	for _, v := range []struct {
		name   string
		server *server
		tokens []string
		want   string
	}{
		{"bare grpc-go", bare, c.sample(), ""}, {"authz, cached", authz, c.sample(), envoy.HeaderApplication},
		{"authz, forged", authz, forged, "900901"}, {"authz, random", authz, random, "900901"},
	} {
		payloads, err := checkRequests(v.tokens, string(benchAPI), benchRev())
		if err != nil {
			return err
		}
		vs = append(vs, variant{v.name, window(v.server, payloads, 64, v.want)})
	}
	before := residentMB(authz.pid())
	samples, err := compare(rounds, vs)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nCheck of tokens that are not ours, 64 in flight")
	report(out, vs, samples, "server")
	fmt.Fprintf(out, "resident before %.0f MB, after %.0f MB\n", before, residentMB(authz.pid()))
	return nil
}
