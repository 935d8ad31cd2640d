package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"tollgate/authz/cache"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// prefixTags takes what begins like ours for ours.
type prefixTags struct{}

func (prefixTags) Check(kind keymanager.CredentialKind, value string) bool {
	switch kind {
	case keymanager.AccessToken:
		return strings.HasPrefix(value, "tgat_good")
	case keymanager.APIKeyCredential:
		return strings.HasPrefix(value, "tgak_good")
	default:
		return false
	}
}

const (
	goodToken = "tgat_good1"
	goodKey   = "tgak_good1"
	envoyPath = "/pets/1.0.0"
)

// petsAPI is the API that most tests call.
func petsAPI() *keymanager.API {
	return &keymanager.API{
		ID: "api-pets", Organization: "acme", Name: "Pets", Context: "/pets", Version: "1.0.0",
		Protocol: keymanager.HTTP1, State: keymanager.StatePublished,
		Production: []string{"http://127.0.0.1:1"}, Sandbox: []string{"http://127.0.0.1:2"},
		Security: []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeAPIKey},
		Resources: []keymanager.Resource{
			{Method: "GET", Path: "/items", AuthType: keymanager.AuthAny},
			{Method: "GET", Path: "/items/{id}", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"pets:read", "pets:admin"}},
			{Method: "DELETE", Path: "/items/{id}", AuthType: keymanager.AuthAny, Scopes: []keymanager.Scope{"pets:admin"}},
			{Method: "GET", Path: "/app", AuthType: keymanager.AuthApplication},
			{Method: "GET", Path: "/me", AuthType: keymanager.AuthApplicationUser},
			{Method: "GET", Path: "/public", AuthType: keymanager.AuthNone},
		},
	}
}

// rig is authz with its caches before a fake key manager.
type rig struct {
	km     *keymanagertest.KeyManager
	server *Server
	lru    *cache.LRU
}

func newRig(t testing.TB, change func(*Options), list ...*keymanager.API) *rig {
	t.Helper()
	if list == nil {
		list = []*keymanager.API{petsAPI()}
	}
	r := &rig{km: keymanagertest.New(keymanagertest.Options{}, list...)}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	capped, err := cache.NewCap(cache.CapOptions{Next: r.km, Now: time.Now})
	must(t, err)
	flight, err := cache.NewFlight(cache.FlightOptions{Next: capped, Logger: log})
	must(t, err)
	r.lru, err = cache.NewLRU(cache.LRUOptions{Next: flight, Now: time.Now})
	must(t, err)
	o := Options{
		ID: "authz-1", Validator: r.lru, Uncached: capped,
		Catalog: r.km, Revocations: r.km, Gateways: r.km,
		Tags: prefixTags{}, Now: time.Now, Logger: log,
	}
	if change != nil {
		change(&o)
	}
	r.server, err = New(o)
	must(t, err)
	return r
}

// run starts the server's streams and waits until it is ready.
func (r *rig) run(t testing.TB) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	eventually(t, "ready", func() bool { return r.server.Ready() == nil })
	return r
}

// settle waits until authz knows everything up to p.
func (r *rig) settle(t testing.TB, p keymanager.Position) {
	t.Helper()
	eventually(t, "confirmed "+p.String(), func() bool { return r.server.confirmed().Reached(p) })
}

// serve serves on a Unix socket and returns a client of it.
func (r *rig) serve(t testing.TB) (authv3.AuthorizationClient, *grpc.ClientConn) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "authz")
	must(t, err)
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- r.server.GRPC().Serve(l) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() {
		must(t, conn.Close())
		r.server.GRPC().Stop()
		if err := <-done; !errors.Is(err, grpc.ErrServerStopped) { // it may not have begun
			must(t, err)
		}
		must(t, os.RemoveAll(dir))
	})
	return authv3.NewAuthorizationClient(conn), conn
}

// grant stores a verdict for the credentials that most tests use.
func (r *rig) grant(change func(*keymanager.Verdict)) *keymanager.Verdict {
	v := keymanagertest.ActiveVerdict(1, time.Now().Add(-time.Minute))
	if change != nil {
		change(v)
	}
	r.km.SetVerdict(keymanager.Credential{Kind: keymanager.AccessToken, Value: goodToken}, "", v)
	k := *v
	k.Kind = keymanager.APIKeyCredential
	r.km.SetVerdict(keymanager.Credential{Kind: keymanager.APIKeyCredential, Value: goodKey}, "", &k)
	return v
}

// call is a request as Envoy would put it.
type call struct {
	method, path string
	api          string // "-" = none
	extensions   map[string]string
	headers      []string // name, value, name, value, …
}

func (c call) message() *authv3.CheckRequest {
	if c.method == "" {
		c.method = "GET"
	}
	extensions := map[string]string{"api_id": "api-pets", "rev": "1"}
	switch c.api {
	case "":
	case "-":
		extensions = map[string]string{}
	default:
		extensions["api_id"] = c.api
	}
	for k, v := range c.extensions {
		extensions[k] = v
	}
	headers := &corev3.HeaderMap{}
	for i := 0; i < len(c.headers); i += 2 {
		headers.Headers = append(headers.Headers, &corev3.HeaderValue{Key: c.headers[i], RawValue: []byte(c.headers[i+1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Principal: "ignored"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: c.method, Path: c.path, Host: "localhost", Scheme: "http", Protocol: "HTTP/1.1", Size: -1, HeaderMap: headers,
		}},
		ContextExtensions: extensions,
	}}
}

// check sends c through the whole handler, bytes to bytes.
func (r *rig) check(t testing.TB, c call) *authv3.CheckResponse {
	t.Helper()
	in, err := proto.Marshal(c.message())
	must(t, err)
	out := new(authv3.CheckResponse)
	must(t, proto.Unmarshal(r.server.check(t.Context(), string(in)).wire.Materialize(), out))
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls for an effect.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func keymanagerToken(value string) keymanager.Credential {
	return keymanager.Credential{Kind: keymanager.AccessToken, Value: value}
}

func decodeReply(t testing.TB, r *reply) *authv3.CheckResponse {
	t.Helper()
	m := new(authv3.CheckResponse)
	must(t, proto.Unmarshal(r.wire.Materialize(), m))
	return m
}

// bodyOf reads a JSON body; numbers become text.
func bodyOf(t testing.TB, body string) map[string]string {
	t.Helper()
	raw := map[string]any{}
	if body == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	must(t, d.Decode(&raw))
	out := map[string]string{}
	for k, v := range raw {
		out[k] = fmt.Sprint(v)
	}
	return out
}
