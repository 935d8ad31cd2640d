//go:build !short

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// newRandom shows its seed when the test fails.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// identity: RS21 to RS23, what a back end learns of a caller comes from us
// alone, and what a caller claims decides nothing.
func identity(t *testing.T, pl *place) {
	live := pl.token(t, "buyer", "shop:write", "stock:admin")
	want := map[string]string{
		"x-tollgate-application": "buyer", "x-tollgate-consumer-key": pl.keys["buyer/PRODUCTION"].ID, "x-tollgate-key-type": "PRODUCTION",
		"x-tollgate-subscriber": "PRIMARY/alice", "x-tollgate-user": "PRIMARY/alice", "x-tollgate-api": "shop", "x-tollgate-api-version": "1.0.0",
		"x-tollgate-subscription-tier": "Gold", "x-tollgate-scopes": "shop:write stock:admin",
	}
	claims := []string{
		"x-tollgate-user: PRIMARY/admin", "X-TOLLGATE-USER: root", "x-tollgate-application: admin", "x-tollgate-scopes: tollgate:admin",
		"x-tollgate-env: sandbox", "x-tollgate-context: /stock", "x-tollgate-mine: 1", "x-jwt-assertion: a.b.c", "x-envoy-original-path: /stopped",
		"X-Forwarded-Uri: /shop/1.0.0/open", "X-Forwarded-Method: DELETE", "X-Forwarded-Host: evil.example", "X-Original-Url: /shop/1.0.0/open",
		"X-Rewrite-Url: /shop/1.0.0/open", "X-Http-Method-Override: DELETE", "Forwarded: host=evil.example", "User-Agent: kube-probe/1.30",
	}
	for name, lines := range map[string][]string{"nothing claimed": nil, "claims": claims,
		"hop by hop": {"Connection: x-tollgate-user, x-tollgate-scopes, x-tollgate-application, apikey, close"}} {
		seen := pl.allowed(t, name, func() envoytest.Reply {
			return pl.get(t, "/shop/1.0.0/items/7?q=1", append([]string{bearer(live)}, lines...)...)
		})
		if seen.Method != http.MethodGet || seen.Path != "/items/7?q=1" {
			t.Errorf("%s: the back end got %s %s", name, seen.Method, seen.Path)
		}
		for header, value := range want {
			if got := seen.Get(header); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %s is %q, want %q", name, header, got, value)
			}
		}
		for _, f := range seen.Headers {
			if strings.HasPrefix(f.Name, "x-tollgate-") && want[f.Name] == "" && f.Name != "x-tollgate-application-id" ||
				slices.Contains([]string{"authorization", "x-jwt-assertion", "x-forwarded-uri", "x-forwarded-host", "x-original-url"}, f.Name) {
				t.Errorf("%s: the back end got %s: %s", name, f.Name, f.Value)
			}
		}
	}
	// Without a credential the claims open nothing.
	pl.forget()
	missing.check(t, "claims alone", pl.get(t, "/shop/1.0.0/items", claims...))
	missing.check(t, "a credential for one hop, which the back end would not get",
		pl.get(t, "/shop/1.0.0/items", bearer(live), "Connection: authorization"))
	missing.check(t, "a probe", pl.get(t, "/shop/1.0.0/items", "User-Agent: kube-probe/1.30", "X-Forwarded-Uri: /healthz"))
	missing.check(t, "a monitor", pl.get(t, "/shop/1.0.0/items/healthz", "User-Agent: GoogleHC/1.0"))
	for _, path := range []string{"/healthz", "/readyz", "/ping", "/healthz/shop/1.0.0/items", "/metrics"} {
		notFound.check(t, path, pl.get(t, path, "User-Agent: kube-probe/1.30"))
	}
	if pl.reached() != 0 {
		t.Error("a back end was reached")
	}
	// Underscores would be read as "-" by some.
	if r := pl.get(t, "/shop/1.0.0/items", bearer(live), "x_tollgate_user: root"); r.Status != 400 {
		t.Errorf("a header with underscores: %d", r.Status)
	}
	// Anonymous, whatever is claimed.
	seen := pl.allowed(t, "an open resource", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/open", claims...) })
	if user, app := seen.Get("x-tollgate-user"), seen.Get("x-tollgate-application"); !slices.Equal(user, []string{"anonymous"}) || app != nil {
		t.Errorf("an open resource: user %q, application %q", user, app)
	}
}

// wholeNames: RS30, names with odd characters are one name, and the same name
// in two user stores is two users.
func wholeNames(t *testing.T, pl *place) {
	owners := map[string]string{"odd1": "a@x@evil", "odd2": "LDAP/alice", "odd3": "alice+admin@example.com", "odd4": "PRIMARY/alice"}
	var m strings.Builder
	for _, user := range []string{"a@x@evil", "LDAP/alice", "alice+admin@example.com"} {
		fmt.Fprintf(&m, "---\n{kind: User, organization: default, name: %q, spec: {}}\n", user)
	}
	for app, owner := range owners {
		fmt.Fprintf(&m, "---\n{kind: Application, organization: default, name: %s, spec: {owner: %q}}\n", app, owner)
		fmt.Fprintf(&m, "---\n{kind: Key, organization: default, name: %s/PRODUCTION, spec: {}}\n", app)
		fmt.Fprintf(&m, "---\n{kind: Subscription, organization: default, name: %s-shop, spec: {application: %s, api: shop/1.0.0, tier: Gold}}\n", app, app)
	}
	pl.apply(t, m.String())
	tokens := map[string]string{}
	for app, owner := range owners {
		if !strings.Contains(owner, "/") {
			owner = "PRIMARY/" + owner
		}
		tokens[app] = pl.token(t, app)
		seen := pl.allowed(t, owner, func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", bearer(tokens[app])) })
		if got := seen.Get("x-tollgate-user"); !slices.Equal(got, []string{owner}) {
			t.Errorf("user %q, want %q", got, owner)
		}
	}
	// One of the two alices goes.
	pl.admin.Must(t, "PUT", "/organizations/default/users/LDAP/alice", map[string]string{"status": "DISABLED"}, nil)
	invalid.check(t, "the other store's alice", pl.get(t, "/shop/1.0.0/items", bearer(tokens["odd2"])))
	pl.allowed(t, "our own alice", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", bearer(tokens["odd4"])) })
}

// environments: keys of both types on the same URLs.
func environments(t *testing.T, pl *place) {
	production, sandbox := pl.token(t, "buyer"), pl.token(t, "buyer/SANDBOX")
	for range 10 {
		for _, tt := range []struct {
			name, target, token  string
			toProduction, toTest int
		}{
			{"production key", "/shop/1.0.0/items", production, 1, 0},
			{"sandbox key", "/shop/1.0.0/items", sandbox, 0, 1},
			{"production key, production alone", "/lone/1.0.0/items", production, 1, 0},
			{"sandbox key, production alone", "/lone/1.0.0/items", sandbox, 0, 0},
			{"sandbox key, sandbox alone", "/trial/1.0.0/items", sandbox, 0, 1},
			{"production key, sandbox alone", "/trial/1.0.0/items", production, 0, 0},
			{"no key, both", "/shop/1.0.0/open", "", 1, 0},
			{"no key, production alone", "/lone/1.0.0/open", "", 1, 0},
			{"no key, sandbox alone", "/trial/1.0.0/open", "", 0, 1},
			{"a key that is not asked for", "/shop/1.0.0/open", sandbox, 1, 0},
		} {
			for _, lines := range [][]string{nil, {"x-tollgate-env: sandbox"}, {"x-tollgate-env: production"}, {"x-tollgate-env: none", "x-tollgate-env: sandbox"}} {
				pl.forget()
				if tt.token != "" {
					lines = append([]string{bearer(tt.token)}, lines...)
				}
				r := pl.get(t, tt.target, lines...)
				if p, s := len(pl.production.Seen()), len(pl.sandbox.Seen()); p != tt.toProduction || s != tt.toTest {
					t.Errorf("%s, %q: %d; production saw %d, sandbox %d", tt.name, lines, r.Status, p, s)
				}
				if tt.toProduction+tt.toTest == 0 {
					invalid.check(t, tt.name, r)
				}
				for _, seen := range append(pl.production.Seen(), pl.sandbox.Seen()...) {
					keyType := map[int]string{0: "SANDBOX", 1: "PRODUCTION"}[tt.toProduction]
					if seen.Get("x-tollgate-env") != nil || !slices.Equal(seen.Get("x-tollgate-key-type"), []string{keyType}) {
						t.Errorf("%s: the back end got %v", tt.name, seen.Headers)
					}
				}
			}
		}
	}
}

// refusalsOfGRPC: a client of a gRPC API learns of a refusal in its own terms.
func refusalsOfGRPC(t *testing.T, pl *place) {
	client := envoytest.DialGRPC(t, pl.Gateway, "localhost")
	revoked := pl.token(t, "buyer")
	pl.revoke(t, "buyer/PRODUCTION", revoked)
	call := func(token string) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
		t.Cleanup(cancel)
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		return ctx
	}
	empty := func(ctx context.Context, more ...grpc.CallOption) error {
		_, err := client.EmptyCall(ctx, &grpc_testing.Empty{}, more...)
		return err
	}
	unary := func(ctx context.Context, more ...grpc.CallOption) error {
		_, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: envoytest.Payload("hi")}, more...)
		return err
	}
	pl.forget()
	for _, tt := range []struct {
		name, token string
		call        func(context.Context, ...grpc.CallOption) error
		code        codes.Code
		message     string
	}{
		{"allowed", pl.token(t, "buyer"), unary, codes.OK, ""},
		{"scope", pl.token(t, "buyer", "rpc:empty"), empty, codes.OK, ""},
		{"no credential", "", unary, codes.Unauthenticated, "Missing Credentials"},
		{"revoked", revoked, unary, codes.Unauthenticated, "Invalid Credentials"},
		{"forged", "nonsense", unary, codes.Unauthenticated, "Invalid Credentials"},
		{"no scope", pl.token(t, "buyer", "stock:admin"), empty, codes.PermissionDenied, "The access token does not allow you to access the requested resource"},
		{"not subscribed", pl.token(t, "blocked"), unary, codes.PermissionDenied, "Resource forbidden"},
		{"no such method", pl.token(t, "buyer"), func(ctx context.Context, more ...grpc.CallOption) error {
			_, err := client.UnimplementedCall(ctx, &grpc_testing.Empty{}, more...)
			return err
		}, codes.PermissionDenied, "No matching resource found in the API for the given request"},
	} {
		var header, trailer metadata.MD
		err := tt.call(call(tt.token), grpc.Header(&header), grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != tt.code || s.Message() != tt.message {
			t.Errorf("%s: %v, want %v: %s", tt.name, err, tt.code, tt.message)
		}
		if id := append(header.Get("x-request-id"), trailer.Get("x-request-id")...); len(id) == 0 {
			t.Errorf("%s: no x-request-id", tt.name)
		}
	}
	seen := pl.grpc.Seen()
	if len(seen) != 2 || pl.reached() != 2 || !slices.Equal(seen[0].Get("x-tollgate-application"), []string{"buyer"}) || seen[0].Get("authorization") != nil {
		t.Errorf("the back end saw %v", seen)
	}
	// A service that nobody published.
	if err := empty(call("")); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	health := envoytest.DialGRPC(t, pl.Gateway, "other.example")
	if _, err := health.EmptyCall(call(""), &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("another host: %v", err)
	}
}

// authzHangs: RS24, who decides is stopped in its tracks: 503 in time, nothing
// let through, and all well without a restart when it is back.
func authzHangs(t *testing.T, pl *place) {
	live := pl.token(t, "buyer")
	pl.allowed(t, "before", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", bearer(live)) })
	pl.forget()
	pl.process.Signal(syscall.SIGSTOP)
	defer pl.process.Signal(syscall.SIGCONT)
	rig.Eventually(t, "the process stands still", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pl.process.Pid()))
		if err == nil && !strings.Contains(string(stat), ") T ") {
			err = errors.New("it runs")
		}
		return err
	})
	for _, tt := range []struct{ name, target string }{{"closed", "/shop/1.0.0/items"}, {"open", "/shop/1.0.0/open"}} {
		begun := time.Now()
		r := pl.get(t, tt.target, bearer(live))
		// The promise is half a second; this only tells it from a hang.
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: refused after %v", tt.name, took)
		}
		refusal{503, "900900", ""}.check(t, tt.name, r)
		if after := r.Header.Get("Retry-After"); after == "" {
			t.Errorf("%s: no Retry-After", tt.name)
		}
	}
	if pl.reached() != 0 {
		t.Error("a back end was reached")
	}
	pl.process.Signal(syscall.SIGCONT)
	rig.Eventually(t, "authz decides again", func() error {
		if r := pl.get(t, "/shop/1.0.0/items", bearer(live)); r.Status != 200 {
			return fmt.Errorf("%d %s", r.Status, r.Body)
		}
		return nil
	})
}
