package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tollgate/authz"
	"tollgate/authz/cache"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/token"
)

// The load that authz is measured with: everything on (resource matching,
// scopes, subscription, expiry, revocation set, metrics; log at info).
const (
	benchAPI     = keymanager.APIID("weather-v1")
	benchAPIs    = 1000
	benchTokens  = 100_000 // cached
	sampleTokens = 2000    // asked for
)

// credentials are what the server and the load generator have to share: the
// tag key and the tokens that it made.
type credentials struct {
	dir    string
	tokens []string
}

func (c credentials) tagKeyFile() string { return filepath.Join(c.dir, "tag.key") }
func (c credentials) tokenFile() string  { return filepath.Join(c.dir, "tokens") }

func newCredentials(dir string) (*credentials, error) {
	c := &credentials{dir: dir}
	key, err := token.NewTagKeys(rand.Reader)
	if err != nil {
		return nil, err
	}
	tags, err := token.ParseTagKeys(key)
	if err != nil {
		return nil, err
	}
	minter := token.NewMinter(tags, rand.Reader)
	for range benchTokens {
		t, err := minter.AccessToken()
		if err != nil {
			return nil, err
		}
		c.tokens = append(c.tokens, t)
	}
	if err := os.WriteFile(c.tagKeyFile(), key, 0o600); err != nil {
		return nil, err
	}
	return c, os.WriteFile(c.tokenFile(), []byte(strings.Join(c.tokens, "\n")), 0o600)
}

// sample returns the tokens of the payloads.
func (c *credentials) sample() []string { return c.tokens[:sampleTokens] }

func readCredentials(dir string) (*credentials, *token.TagKeys, error) {
	c := &credentials{dir: dir}
	key, err := os.ReadFile(c.tagKeyFile())
	if err != nil {
		return nil, nil, err
	}
	tags, err := token.ParseTagKeys(key)
	if err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(c.tokenFile())
	if err != nil {
		return nil, nil, err
	}
	c.tokens = strings.Split(string(b), "\n")
	return c, tags, nil
}

// benchKeyManager answers every well-tagged token as live, as one of a thousand
// applications. Every tenth API is as large as the one under load.
type benchKeyManager struct {
	*keymanagertest.KeyManager
	issued time.Time
	seed   maphash.Seed
}

func newBenchKeyManager() *benchKeyManager {
	var apis []*keymanager.API
	for i := range benchAPIs - 1 {
		apis = append(apis, weatherAPI(keymanager.APIID(fmt.Sprintf("other-%d", i)), fmt.Sprintf("/other%d", i)))
	}
	apis = append(apis, weatherAPI(benchAPI, "/weather"))
	return &benchKeyManager{issued: time.Now(), seed: maphash.MakeSeed(),
		KeyManager: keymanagertest.New(keymanagertest.Options{Heartbeat: time.Second}, apis...)}
}

func weatherAPI(id keymanager.APIID, context string) *keymanager.API {
	return &keymanager.API{ID: id, Organization: "bench", Name: string(id), Context: context, Version: "v1",
		Protocol: keymanager.HTTP1, Timeout: keymanager.DefaultTimeout, State: keymanager.StatePublished,
		Production: []string{"http://127.0.0.1:9"}, Sandbox: []string{"http://127.0.0.1:9"},
		Resources: []keymanager.Resource{
			{Method: "GET", Path: "/city/{id}", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"weather:read"}},
			{Method: "POST", Path: "/city", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"weather:write"}},
			{Method: "GET", Path: "/city/{id}/forecast/{day}", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"weather:read"}},
			{Method: "GET", Path: "/health", AuthType: keymanager.AuthNone},
		}}
}

// Validate implements keymanager.Validator.
func (k *benchKeyManager) Validate(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	h := maphash.String(k.seed, q.Credential.Value)
	app := h % 1000
	v := &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: q.Credential.Kind, IssuedAt: k.issued, ExpiresAt: k.issued.Add(time.Hour), Head: k.Head(),
		Grant: &keymanager.Grant{
			Organization: "bench", Application: keymanager.GrantApplication{ID: keymanager.ApplicationID(fmt.Sprintf("app-%d", app)), Name: fmt.Sprintf("shop %d", app), Tier: "Gold"},
			ConsumerKey: keymanager.ConsumerKey(fmt.Sprintf("ck-%d", app)), KeyType: keymanager.Production, Subscriber: "PRIMARY/alice", User: "PRIMARY/alice",
			UserID: "user-1", UserStore: keymanager.PrimaryUserStore, UserType: keymanager.UserTypeApplication,
			Scopes:       []keymanager.Scope{"weather:read", "weather:write"},
			Subscription: &keymanager.GrantSubscription{ID: keymanager.SubscriptionID(fmt.Sprintf("sub-%d", app)), State: keymanager.Unblocked, Tier: "Silver"},
		}}
	binary.BigEndian.PutUint64(v.TokenID[:], h)
	return v, nil
}

// verdictChain is the chain of cmd/tollgate: LRU, flight, cap.
func verdictChain(next keymanager.Validator, log *slog.Logger) (*cache.LRU, error) {
	limit, err := cache.NewCap(cache.CapOptions{Next: next, Now: time.Now})
	if err != nil {
		return nil, err
	}
	flight, err := cache.NewFlight(cache.FlightOptions{Next: limit, Logger: log})
	if err != nil {
		return nil, err
	}
	return cache.NewLRU(cache.LRUOptions{Next: flight, Now: time.Now, Size: 2 * benchTokens})
}

// serveAuthz runs the real authz, with every token of dir in its cache.
func serveAuthz(ctx context.Context, l net.Listener, dir string) error {
	c, tags, err := readCredentials(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(io.Discard, nil)) // info: a refusal would be formatted
	km := newBenchKeyManager()
	chain, err := verdictChain(km, log)
	if err != nil {
		return err
	}
	for _, t := range c.tokens {
		if _, err := chain.Validate(ctx, keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: t}, API: benchAPI}); err != nil {
			return err
		}
	}
	s, err := authz.New(authz.Options{ID: "bench", Validator: chain, Uncached: km, Catalog: km, Revocations: km, Gateways: km,
		Tags: tags, Now: time.Now, Logger: log})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	server := s.GRPC()
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	g.Go(func() error { return server.Serve(l) })
	return g.Wait()
}

// benchRev is the revision that the bench API has in the catalog.
func benchRev() uint64 { return newBenchKeyManager().Head().Seq }
