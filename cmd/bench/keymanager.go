package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"tollgate/keymanager"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/rpc"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/token"
	"tollgate/keymanager/validator"
)

// postgresEnv names a PostgreSQL database of its own for the key manager; SQLite
// in a file is used without it.
const postgresEnv = "BENCH_POSTGRES"

// realKeyManager is a key manager as "tollgate serve keymanager" runs one: the
// database with durable commits, the reader of its log, the validator, and the
// gRPC service.
type realKeyManager struct {
	store   *sqlstore.Store
	service *publish.Service
	server  *grpc.Server
}

// newKeyManager opens the database in dir and fills it with one API, and a token
// of one of ten applications for each of tokens.
func newKeyManager(ctx context.Context, dir string, tags *token.TagKeys, tokens []string) (*realKeyManager, error) {
	log := slog.New(slog.DiscardHandler)
	var st *sqlstore.Store
	var err error
	if dsn := os.Getenv(postgresEnv); dsn != "" {
		st, err = sqlstore.OpenPostgres(ctx, dsn, sqlstore.Options{Logger: log})
	} else {
		st, err = sqlstore.OpenSQLite(ctx, filepath.Join(dir, "keymanager.db"), sqlstore.Options{Logger: log})
	}
	if err != nil {
		return nil, err
	}
	k := &realKeyManager{store: st}
	if err := k.build(ctx, log, tags, tokens); err != nil {
		_ = st.Close()
		return nil, err
	}
	return k, nil
}

func (k *realKeyManager) build(ctx context.Context, log *slog.Logger, tags *token.TagKeys, tokens []string) error {
	file, err := token.NewPeppers(rand.Reader)
	if err != nil {
		return err
	}
	peppers, err := token.ParsePeppers(file)
	if err != nil {
		return err
	}
	if err := k.fill(ctx, peppers, tokens); err != nil {
		return err
	}
	valid, err := validator.New(validator.Options{Store: k.store, Tags: tags, Peppers: peppers, Now: time.Now})
	if err != nil {
		return err
	}
	gateways, err := publish.NewGateways(publish.GatewaysOptions{Now: time.Now})
	if err != nil {
		return err
	}
	if k.service, err = publish.New(publish.Options{Store: k.store, Now: time.Now, Logger: log}); err != nil {
		return err
	}
	service, err := rpc.NewServer(rpc.ServerOptions{Validator: valid, Catalog: k.service, Revocations: k.service, Gateways: gateways, Logger: log})
	if err != nil {
		return err
	}
	k.server = grpc.NewServer(rpc.GRPCOptions()...)
	service.Register(k.server)
	return nil
}

// tokenID is the id of the token number i.
func tokenID(i int) (id keymanager.TokenID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)+1)
	return id
}

func (k *realKeyManager) fill(ctx context.Context, peppers *token.Peppers, tokens []string) error {
	const org, apps = keymanager.OrganizationID("bench"), 10
	now := time.Now().Truncate(time.Second)
	name := func(i int) string { return fmt.Sprint("app-", i%apps) }
	_, err := k.store.InTx(ctx, func(s store.Store) error {
		if err := s.CreateOrganization(ctx, &keymanager.Organization{ID: org}); err != nil {
			return err
		}
		for _, tier := range keymanager.DefaultTiers(org) {
			if err := s.CreateTier(ctx, &tier); err != nil {
				return err
			}
		}
		if err := s.CreateAPI(ctx, weatherAPI(benchAPI, "/weather")); err != nil {
			return err
		}
		user := keymanager.User{ID: "alice", Organization: org, Name: "alice", UserStore: keymanager.PrimaryUserStore, Status: keymanager.UserActive}
		if err := s.CreateUser(ctx, &user); err != nil {
			return err
		}
		for i := range apps {
			app := keymanager.Application{ID: keymanager.ApplicationID(name(i)), Organization: org, Name: name(i), Owner: user.ID, Tier: "Gold",
				TokenType: keymanager.OpaqueToken, Status: keymanager.ApplicationApproved}
			if err := s.CreateApplication(ctx, &app); err != nil {
				return err
			}
			if err := s.CreateSubscription(ctx, &keymanager.Subscription{ID: keymanager.SubscriptionID(name(i)), Organization: org, Name: name(i),
				ApplicationID: app.ID, APIID: benchAPI, Tier: "Silver", State: keymanager.Unblocked}); err != nil {
				return err
			}
			if err := s.CreateClient(ctx, &keymanager.Client{ConsumerKey: keymanager.ConsumerKey(name(i)), ApplicationID: app.ID,
				KeyType: keymanager.Production, GrantTypes: []string{keymanager.GrantClientCredentials}, CreatedAt: now}); err != nil {
				return err
			}
		}
		for i, value := range tokens {
			if err := s.CreateToken(ctx, &keymanager.Token{ID: tokenID(i), Digest: peppers.Digest(value), ConsumerKey: keymanager.ConsumerKey(name(i)),
				ApplicationID: keymanager.ApplicationID(name(i)), KeyType: keymanager.Production, User: user.ID, UserType: keymanager.UserTypeApplication,
				Scopes: []keymanager.Scope{"weather:read", "weather:write"}, IssuedAt: now.Add(-time.Minute), ExpiresAt: now.Add(2 * time.Hour)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	return nil
}

// revoke revokes the token number i, as the token endpoint does, and returns the
// position of the event once it is durable.
func (k *realKeyManager) revoke(ctx context.Context, i int) (keymanager.Position, error) {
	return k.store.InTx(ctx, func(s store.Store) error {
		_, err := s.RevokeToken(ctx, tokenID(i), time.Now())
		return err
	})
}

// run serves on l until ctx ends, and closes the database.
func (k *realKeyManager) run(ctx context.Context, l net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.service.Run(ctx) })
	stop := context.AfterFunc(ctx, k.server.Stop)
	defer stop()
	g.Go(func() error { return k.server.Serve(l) })
	err := g.Wait()
	_ = k.store.Close()
	return err
}

// serveKeyManager is the process "bench serve keymanager".
func serveKeyManager(ctx context.Context, l net.Listener, dir string, all bool) error {
	c, tags, err := readCredentials(dir)
	if err != nil {
		return err
	}
	tokens := c.sample()
	if all {
		tokens = c.tokens
	}
	k, err := newKeyManager(ctx, dir, tags, tokens)
	if err != nil {
		return err
	}
	return k.run(ctx, l)
}
