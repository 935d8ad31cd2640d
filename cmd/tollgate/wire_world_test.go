package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// maxTestWait is how long a test waits for the gateways.
const maxTestWait = 30 * time.Second

// wireWorld is a deployment over one database, with callers of every kind.
type wireWorld struct {
	t       *testing.T
	d       *daemon // that runs the key manager
	gate    *daemon // that runs authz
	client  *client
	check   authv3.AuthorizationClient
	apis    map[string]string // id by name/version
	secrets map[string]string // credentials by name
	shown   *strings.Replacer // what differs between two worlds by chance
}

// wirePlace is what is chosen in backends.go and wire.go.
type wirePlace struct {
	store StoreConfig
	redis RedisConfig
	apart bool // authz and xds in other processes than the key manager
}

func newWireWorld(t *testing.T, p wirePlace) *wireWorld {
	t.Helper()
	dir := envoytest.Dir(t)
	cfg := defaultConfig()
	cfg.State.Dir = filepath.Join(dir, "state")
	cfg.KeyManager.Address, cfg.Ops.Address = "127.0.0.1:0", "127.0.0.1:0"
	cfg.KeyManager.Issuer = "http://127.0.0.1:9090"
	cfg.Store.DSN = p.store.DSN
	cfg.Authz.KeyManagerTimeout = Duration(10 * time.Second) // a busy machine is not what is tested
	if p.redis.Mode != "" {
		cfg.Redis = p.redis
		cfg.RPC.Address = filepath.Join(dir, "rpc.sock") // for another authz
	}
	w := &wireWorld{t: t, apis: map[string]string{}, secrets: map[string]string{}}
	if p.apart {
		w.d = startDaemon(t, cfg, roles{keyManager: true})
		cfg.RPC.Servers = []string{w.d.rpcListener.Addr().String()}
		w.gate = startDaemon(t, cfg, roles{authz: true, xds: true})
	} else {
		w.d = startDaemon(t, cfg, allRoles)
		w.gate = w.d
	}
	var err error
	if w.client, err = newClient(w.d.credentials); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.http.CloseIdleConnections)
	w.check = dialAuthz(t, "unix:"+w.gate.authzListener.Addr().String())
	w.populate()
	return w
}

// at returns the world as seen by another authz.
func (w *wireWorld) at(t *testing.T, gate *daemon) *wireWorld {
	other := *w
	other.gate, other.check = gate, dialAuthz(t, "unix:"+gate.authzListener.Addr().String())
	return &other
}

// startDaemon runs a process in this one, and waits until it is ready.
func startDaemon(t *testing.T, cfg Config, r roles) *daemon {
	t.Helper()
	d, err := newDaemon(t.Context(), cfg, r, newLogger(io.Discard, cfg.Log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	ctx, cancel := context.WithCancel(context.Background())
	up, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- d.run(ctx, nil, func(context.Context) error { close(up); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-up:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return d
}

func dialAuthz(t *testing.T, target string) authv3.AuthorizationClient {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return authv3.NewAuthorizationClient(conn)
}

// populate makes the world of the manifest, its callers, and then the changes.
func (w *wireWorld) populate() {
	w.t.Helper()
	w.apply(wireManifest)
	var replace []string
	for _, kind := range []string{"apis", "subscriptions"} {
		items, err := w.client.list(w.t.Context(), "/api/v1/organizations/default/"+kind)
		w.must(err)
		for _, raw := range items {
			var object struct{ ID, Name string }
			w.must(json.Unmarshal(raw, &object))
			replace = append(replace, object.ID, kind+" "+object.Name)
			if kind == "apis" {
				w.apis[object.Name] = object.ID
			}
		}
	}
	for _, app := range []string{"shop", "held", "rejected", "fraud"} {
		keys := "/api/v1/organizations/default/applications/" + app
		creds, err := createConsumerKey(w.t.Context(), w.client, keys+"/keys", keymanager.Production)
		w.must(err)
		w.secrets[app] = w.token(creds)
		replace = append(replace, string(creds.ConsumerKey), "KEY-"+app)
		var shown struct{ ID string }
		w.must(w.client.call(w.t.Context(), http.MethodGet, keys, nil, &shown))
		replace = append(replace, shown.ID, "APP-"+app)
		if app != "shop" {
			continue
		}
		w.secrets["shop narrow"] = w.token(creds, "none:such", "pets:read")
		w.secrets["shop revoked"] = w.token(creds)
		w.revoke(creds, w.secrets["shop revoked"])
		sandbox, err := createConsumerKey(w.t.Context(), w.client, keys+"/keys", keymanager.Sandbox)
		w.must(err)
		w.secrets["shop sandbox"] = w.token(sandbox)
		replace = append(replace, string(sandbox.ConsumerKey), "KEY-sandbox")
	}
	for name, body := range map[string]map[string]any{
		"shop key":         {"name": "a", "keyType": "PRODUCTION", "networks": []string{"192.0.2.0/24"}},
		"shop sandbox key": {"name": "b", "keyType": "SANDBOX"},
		"shop far key":     {"name": "c", "keyType": "PRODUCTION", "networks": []string{"198.51.100.0/24"}},
		"shop revoked key": {"name": "d", "keyType": "PRODUCTION"},
	} {
		var key struct{ ID, Key string }
		path := "/api/v1/organizations/default/applications/shop/api-keys"
		w.must(w.client.call(w.t.Context(), http.MethodPost, path, body, &key))
		w.secrets[name] = key.Key
		if name == "shop revoked key" {
			w.must(w.client.call(w.t.Context(), http.MethodDelete, path+"/"+key.ID, nil, nil))
		}
	}
	w.apply(wireChanges)
	w.shown = strings.NewReplacer(replace...)
}

func (w *wireWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *wireWorld) apply(manifest string) {
	w.t.Helper()
	docs, err := parseManifest("wire.yaml", []byte(manifest))
	w.must(err)
	_, err = w.client.apply(w.t.Context(), docs, applyOptions{Wait: maxTestWait})
	w.must(err)
}

func (w *wireWorld) token(creds Credentials, scopes ...string) string {
	w.t.Helper()
	c, err := newClient(creds)
	w.must(err)
	defer c.http.CloseIdleConnections()
	answer, err := c.requestToken(w.t.Context(), scopes...)
	w.must(err)
	return answer.AccessToken
}

func (w *wireWorld) revoke(creds Credentials, token string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, creds.Server+"/oauth2/revoke", strings.NewReader("token="+token))
	w.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(string(creds.ConsumerKey), string(creds.ConsumerSecret))
	status, err := w.client.do(req, nil, nil)
	w.must(err)
	if status != http.StatusOK {
		w.t.Fatalf("revoke: %d", status)
	}
}

func (w *wireWorld) headers(bearer, apiKey, authorization string) map[string]string {
	h := map[string]string{envoy.HeaderClientAddress: "192.0.2.7", envoy.HeaderRequestID: "request-1"}
	if bearer != "" {
		h[envoy.HeaderAuthorization] = "Bearer " + w.secrets[bearer]
	}
	if authorization != "" {
		h[envoy.HeaderAuthorization] = authorization
	}
	if apiKey != "" {
		h[envoy.HeaderAPIKey] = w.secrets[apiKey]
	}
	return h
}

// call asks authz as Envoy does, and writes the answer down.
func (w *wireWorld) call(t *testing.T, api, method, path string, headers map[string]string) (status int, code, text string) {
	t.Helper()
	res, err := w.check.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Path: "/" + api + "/1.0.0" + path, Host: "localhost", Headers: headers,
		}},
		ContextExtensions: map[string]string{envoy.ContextAPI: w.apis[api], envoy.ContextRev: "1", envoy.ContextGateway: "default"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	status, lines := http.StatusOK, []string{fmt.Sprintf("grpc status %d", res.GetStatus().GetCode())}
	list, body := res.GetOkResponse().GetHeaders(), ""
	for _, r := range []*authv3.DeniedHttpResponse{res.GetDeniedResponse(), res.GetErrorResponse()} {
		if r != nil {
			status, list, body = int(r.GetStatus().GetCode()), r.GetHeaders(), r.GetBody()
		}
	}
	for _, h := range list {
		if name := h.GetHeader().GetKey(); name != "retry-after" { // differs by design
			lines = append(lines, name+": "+h.GetHeader().GetValue())
		}
	}
	lines = append(lines, "removed: "+strings.Join(res.GetOkResponse().GetHeadersToRemove(), " "), body)
	metadata, err := json.Marshal(res.GetDynamicMetadata().AsMap())
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		var refusal struct{ Code string }
		if err := json.Unmarshal([]byte(body), &refusal); err != nil {
			t.Fatal(err)
		}
		code = refusal.Code
	}
	return status, code, w.shown.Replace(strings.Join(append(lines, string(metadata)), "\n"))
}
