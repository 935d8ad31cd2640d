package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/rpc"
)

// TestFailuresStayApart: what goes wrong in one call is not seen by others, and
// says what it may.
func TestFailuresStayApart(t *testing.T) {
	const secret = "tgat-very-secret-value"
	k, all := fake(t)
	var log buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := serveWith(t, listener(t, "unix"), rpc.ServerOptions{Validator: all, Catalog: panics{k}, Revocations: k, Gateways: k, Logger: logger})
	c := dial(t, rpc.ClientOptions{Targets: []string{s.target}, Logger: logger})
	q := keymanager.Query{Credential: keymanager.Credential{Kind: keymanager.AccessToken, Value: secret}, API: "a"}
	for name, tt := range map[string]struct {
		err  error
		kind keymanager.Kind
		want string
	}{
		"unavailable":  {keymanager.Errorf(keymanager.KindUnavailable, "no database"), keymanager.KindUnavailable, "no database"},
		"with a cause": {&keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "no database", Err: errors.New("at 10.0.0.7")}, keymanager.KindUnavailable, "no database"},
		"wrapped":      {fmt.Errorf("reading: %w", keymanager.Errorf(keymanager.KindConflict, "taken")), keymanager.KindConflict, "taken"},
		"not found":    {keymanager.Errorf(keymanager.KindNotFound, "nothing"), keymanager.KindNotFound, "nothing"},
		"precondition": {keymanager.Errorf(keymanager.KindPrecondition, "changed"), keymanager.KindPrecondition, "changed"},
		"forbidden":    {keymanager.Errorf(keymanager.KindForbidden, "no"), keymanager.KindForbidden, "no"},
		"invalid": {keymanager.Invalid("bad", []keymanager.FieldError{{Path: "/a", Detail: "is wrong"}}),
			keymanager.KindInvalid, "bad; /a: is wrong"},
		"internal": {keymanager.Errorf(keymanager.KindInternal, "the key is 4711"), keymanager.KindInternal, "internal error"},
		"foreign":  {errors.New("the key is 4711"), keymanager.KindInternal, "internal error"},
		"none":     {nil, keymanager.KindInternal, "internal error"}, // and no verdict
		"deadline": {context.DeadlineExceeded, keymanager.KindUnavailable, "deadline"},
	} {
		k.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, tt.err })
		v, err := c.Validate(t.Context(), q)
		if err == nil || v != nil || keymanager.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
		if err != nil && (strings.Contains(err.Error(), "4711") || strings.Contains(err.Error(), "10.0.0.7")) {
			t.Errorf("%s says too much: %v", name, err)
		}
	}
	k.OnValidate(func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) { panic(q.Credential.Value) })
	if v, err := c.Validate(t.Context(), q); v != nil || err == nil || keymanager.KindOf(err) != keymanager.KindInternal || strings.Contains(err.Error(), secret) {
		t.Errorf("panic: %v, %v", v, err)
	}
	if err := c.Watch(t.Context(), keymanager.Position{}, onlyAPIs, func(keymanager.Change) error { return nil }); err == nil || keymanager.KindOf(err) != keymanager.KindInternal {
		t.Errorf("panic in a stream: %v", err)
	}
	k.OnValidate(func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("the deadline does not cross")
		}
		<-ctx.Done() // the work ends with it
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if v, err := c.Validate(ctx, q); v != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v, %v", v, err)
	}
	k.OnValidate(nil)
	if v, err := c.Validate(t.Context(), q); err != nil || v.Reason != keymanager.ReasonNoSuchCredential {
		t.Errorf("afterwards: %v, %v", v, err)
	}
	huge := q
	huge.Credential.Value = strings.Repeat("x", 9<<20)
	if v, err := c.Validate(t.Context(), huge); v != nil || err == nil {
		t.Errorf("9 MB: %v, %v", v, err)
	}
	if v, err := c.Validate(t.Context(), q); err != nil || v.Reason != keymanager.ReasonNoSuchCredential {
		t.Errorf("after 9 MB: %v, %v", v, err)
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("the credential is in the log:\n%s", log.String())
	}
	if !strings.Contains(log.String(), "panic in a call") || !strings.Contains(log.String(), "4711") {
		t.Errorf("the log does not tell the operator:\n%s", log.String())
	}
}

// buffer is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type panics struct{ keymanager.Catalog }

func (panics) Watch(context.Context, keymanager.Position, []keymanager.CatalogKind, func(keymanager.Change) error) error {
	panic("in the catalog")
}
