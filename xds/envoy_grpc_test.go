//go:build !short

package xds_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

// grpcGateway has one gRPC API more, with a real gRPC back end.
func grpcGateway(t *testing.T, timeout time.Duration, rewrite func(proto.Message)) (*gateway, *envoytest.GRPC) {
	t.Helper()
	back := envoytest.NewGRPC(t)
	g := newGateway(t, setup{rewrite: rewrite, apis: func(map[string]*envoytest.Backend) []*keymanager.API {
		return []*keymanager.API{api("test-service", envoytest.GRPCContext, "1", func(a *keymanager.API) {
			a.Protocol, a.Timeout, a.Production = keymanager.GRPC, timeout, []string{"http://" + back.Addr()}
		})}
	}})
	return g, back
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), envoytest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// Unary calls and streams pass authz once, with the identity that it sets.
func TestGRPCCalls(t *testing.T) {
	g, back := grpcGateway(t, keymanager.DefaultTimeout, nil)
	answer := envoytest.OK(envoy.HeaderUser, "alice")
	answer.GetOkResponse().HeadersToRemove = []string{"authorization"}
	g.authz.Allow(answer)
	client := envoytest.DialGRPC(t, g.addr, host)
	for name, call := range map[string]func(ctx context.Context) error{
		"UnaryCall": func(ctx context.Context) error {
			r, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: envoytest.Payload("hi")})
			if err == nil && string(r.GetPayload().GetBody()) != "hi" {
				return fmt.Errorf("got %v", r)
			}
			return err
		},
		"StreamingOutputCall": func(ctx context.Context) error {
			s, err := client.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{
				Payload: envoytest.Payload("x"), ResponseParameters: make([]*grpc_testing.ResponseParameters, 100)})
			if err != nil {
				return err
			}
			for n := 0; ; n++ {
				if _, err := s.Recv(); errors.Is(err, io.EOF) && n == 100 {
					return nil
				} else if err != nil {
					return fmt.Errorf("after %d messages: %w", n, err)
				}
			}
		},
		"StreamingInputCall": func(ctx context.Context) error {
			s, err := client.StreamingInputCall(ctx)
			if err != nil {
				return err
			}
			for range 100 {
				if err := s.Send(&grpc_testing.StreamingInputCallRequest{Payload: envoytest.Payload(strings.Repeat("x", 1000))}); err != nil {
					return err
				}
			}
			r, err := s.CloseAndRecv()
			if err == nil && r.GetAggregatedPayloadSize() != 100_000 {
				return fmt.Errorf("got %v", r)
			}
			return err
		},
		"FullDuplexCall": func(ctx context.Context) error {
			s, err := client.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			for range 20 { // each answer before the next question
				if err := s.Send(&grpc_testing.StreamingOutputCallRequest{Payload: envoytest.Payload("ping")}); err != nil {
					return err
				}
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("at the end: %w", err)
			}
			return nil
		},
	} {
		t.Run("E32 "+name, func(t *testing.T) {
			g.authz.Forget()
			back.Forget()
			ctx := metadata.AppendToOutgoingContext(deadline(t), "authorization", "Bearer a", envoy.HeaderUser, "mallory", "x-other", "1")
			if err := call(ctx); err != nil {
				t.Error(err)
			}
			calls := g.authz.Calls()
			if len(calls) != 1 || envoytest.API(calls[0]) != "test-service" ||
				envoytest.Path(calls[0]) != envoytest.GRPCContext+"/"+name || calls[0].GetAttributes().GetRequest().GetHttp().GetMethod() != "POST" {
				t.Errorf("authz saw %v", calls)
			}
			seen := back.Seen()
			if len(seen) != 1 || !slices.Equal(seen[0].Get(envoy.HeaderUser), []string{"alice"}) ||
				seen[0].Get("authorization") != nil || !slices.Equal(seen[0].Get("x-other"), []string{"1"}) {
				t.Errorf("the back end saw %v", seen)
			}
		})
	}
}

// gRPC callers learn of a refusal by its gRPC status, others do not.
func TestGRPCRefusals(t *testing.T) {
	g, back := grpcGateway(t, keymanager.DefaultTimeout, nil)
	client := envoytest.DialGRPC(t, g.addr, host)
	for _, tc := range []struct {
		name    string
		answer  *authv3.CheckResponse
		code    codes.Code
		message string
	}{
		{"401 and a body", envoytest.Deny(401, "no token"), codes.Unauthenticated, "no token"},
		{"403 and a body", envoytest.Deny(403, "no scope"), codes.PermissionDenied, "no scope"},
		{"429 and a body", envoytest.Deny(429, "too many"), codes.Unavailable, "too many"},
		{"429, status and body", envoytest.Deny(429, "body", "grpc-status", "8", "grpc-message", "own"), codes.ResourceExhausted, "body"},
		{"429, status and message", envoytest.Deny(429, "", "grpc-status", "8", "grpc-message", "own", "retry-after", "17"),
			codes.ResourceExhausted, "own"},
		{"401, status and message", envoytest.Deny(401, "", "grpc-status", "16", "grpc-message", "no%20token"), codes.Unauthenticated, "no token"},
		{"503 undecided", envoytest.Undecided(503, "", "grpc-status", "14", "grpc-message", "later"), codes.Unavailable, "later"},
	} {
		t.Run("E23 "+tc.name, func(t *testing.T) {
			g.authz.Allow(tc.answer)
			var header, trailer metadata.MD
			_, err := client.EmptyCall(deadline(t), &grpc_testing.Empty{}, grpc.Header(&header), grpc.Trailer(&trailer))
			if s := status.Convert(err); s.Code() != tc.code || s.Message() != tc.message {
				t.Errorf("got %v, want %v: %s", err, tc.code, tc.message)
			}
			if retry := trailer.Get("retry-after"); strings.HasPrefix(tc.name, "429, status and message") && !slices.Equal(retry, []string{"17"}) {
				t.Errorf("retry-after %q in the trailers %v", retry, trailer)
			}
		})
	}
	t.Run("E23 without authz", func(t *testing.T) {
		g.authz.Answer(envoytest.Answer{Status: codes.Internal})
		_, err := client.EmptyCall(deadline(t), &grpc_testing.Empty{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "900900") {
			t.Errorf("got %v", err)
		}
	})
	if n := len(back.Seen()); n > 0 {
		t.Errorf("%d calls reached the back end", n)
	}
	t.Run("E23 an HTTP caller sees no grpc-status", func(t *testing.T) {
		g.authz.Allow(envoytest.Deny(429, "too many", "retry-after", "17"))
		r := g.get(t, "/pets/1.0.0/x")
		if r.Status != 429 || r.Body != "too many" || r.Header.Get("Grpc-Status") != "" || r.Header.Get("Retry-After") != "17" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("E23 without a route", func(t *testing.T) {
		conn := envoytest.DialGRPC(t, g.addr, "other.example.com")
		if _, err := conn.EmptyCall(deadline(t), &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err) // 404
		}
	})
}

// The time that the client allows ends a call, and so does the longest time of
// a stream, at a back end that never answers.
func TestGRPCTimeouts(t *testing.T) {
	silent := func(t *testing.T, timeout time.Duration, rewrite func(proto.Message)) *gateway {
		t.Helper()
		hold := make(chan struct{})
		g := newGateway(t, setup{rewrite: rewrite, apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
			b["silent"] = envoytest.HTTP2(t)
			b["silent"].Respond(func(envoytest.Seen) envoytest.Response { <-hold; return envoytest.Response{} })
			return []*keymanager.API{api("silent", "/pkg.Service", "", func(a *keymanager.API) {
				a.Protocol, a.Timeout, a.Production = keymanager.GRPC, timeout, []string{b["silent"].URL("")}
			})}
		}})
		t.Cleanup(func() { close(hold) })
		return g
	}
	call := func(t *testing.T, g *gateway, fields ...string) envoytest.Reply {
		t.Helper()
		return envoytest.DialH2(t, g.addr).Do(envoytest.H2Request{
			Fields: envoytest.Pseudo("POST", "/pkg.Service/Call", host,
				append([]string{"content-type", "application/grpc", "te", "trailers"}, fields...)...),
			Body: "\x00\x00\x00\x00\x00",
		})
	}
	for name, timeout := range map[string]time.Duration{"of a call": keymanager.DefaultTimeout, "of a stream": 0} {
		t.Run("E32 grpc-timeout "+name, func(t *testing.T) {
			g := silent(t, timeout, nil)
			r := call(t, g, "grpc-timeout", "200m")
			if r.Status != 200 || r.Header.Get("Grpc-Status") != "4" {
				t.Errorf("got %+v", r)
			}
			if got := g.reached(t, "silent").Get("grpc-timeout"); !slices.Equal(got, []string{"200m"}) {
				t.Errorf("the back end saw the time-outs %q", got)
			}
		})
	}
	t.Run("E32 the longest time of a stream", func(t *testing.T) {
		g := silent(t, 0, func(m proto.Message) {
			if s, ok := m.(*routev3.ScopedRouteConfiguration); ok {
				for _, h := range s.GetRouteConfiguration().GetVirtualHosts() {
					for _, r := range h.GetRoutes() {
						if d := r.GetRoute().GetMaxStreamDuration(); d.GetMaxStreamDuration() != nil {
							d.MaxStreamDuration = durationpb.New(300 * time.Millisecond)
						}
					}
				}
			}
		})
		r := call(t, g)
		if r.Status != 200 || r.Header.Get("Grpc-Status") != "4" {
			t.Errorf("got %+v", r)
		}
	})
}

// gRPC-web is decided by authz as gRPC, and answered as gRPC-web.
func TestGRPCWeb(t *testing.T) {
	g, back := grpcGateway(t, keymanager.DefaultTimeout, nil)
	const path = envoytest.GRPCContext + "/UnaryCall"
	call := func(t *testing.T) envoytest.Reply {
		body := string(frame(&grpc_testing.SimpleRequest{Payload: envoytest.Payload("hi")}))
		return envoytest.Raw(t, g.addr, envoytest.Request("POST", path, host,
			"Content-Type: application/grpc-web+proto", "X-Grpc-Web: 1", fmt.Sprintf("Content-Length: %d", len(body)))+body)
	}
	t.Run("E31 allowed", func(t *testing.T) {
		r := call(t)
		message, rest := unframe(t, r.Body)
		var res grpc_testing.SimpleResponse
		if err := proto.Unmarshal(message, &res); err != nil || string(res.GetPayload().GetBody()) != "hi" {
			t.Errorf("got %v, %v", &res, err)
		}
		if !strings.HasPrefix(rest, "\x80") || !strings.Contains(rest, "grpc-status:0") || r.Status != 200 {
			t.Errorf("%d, trailers %q", r.Status, rest)
		}
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc-web") {
			t.Errorf("content type %s", r.Header.Get("Content-Type"))
		}
		calls := g.authz.Calls()
		if len(calls) != 1 || envoytest.API(calls[0]) != "test-service" ||
			!strings.HasPrefix(strings.Join(envoytest.HeaderValues(calls[0], "content-type"), ","), "application/grpc") ||
			strings.Contains(envoytest.HeaderValues(calls[0], "content-type")[0], "web") {
			t.Errorf("authz saw %v", calls)
		}
	})
	back.Forget()
	for _, tc := range []struct {
		name          string
		answer        *authv3.CheckResponse
		status        int
		code, message string
	}{
		{"401 and a body", envoytest.Deny(401, "no token"), 401, "16", "no token"},
		{"429 and a body", envoytest.Deny(429, "too many"), 429, "14", "too many"},
		{"429, status and body", envoytest.Deny(429, "too many", "grpc-status", "8"), 429, "14", "too many"},
		{"429, status and message", envoytest.Deny(429, "", "grpc-status", "8", "grpc-message", "own"), 429, "8", "own"},
	} {
		t.Run("E31 denied: "+tc.name, func(t *testing.T) {
			g.authz.Allow(tc.answer)
			r := call(t)
			if r.Status != tc.status || r.Header.Get("Grpc-Status") != tc.code || r.Header.Get("Grpc-Message") != tc.message || r.Body != "" {
				t.Errorf("got %+v", r)
			}
		})
	}
	if n := len(back.Seen()); n > 0 {
		t.Errorf("%d denied calls reached the back end", n)
	}
}

// frame is a message as gRPC sends it.
func frame(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// unframe takes the first message off.
func unframe(t *testing.T, body string) (message []byte, rest string) {
	t.Helper()
	if len(body) < 5 || len(body) < 5+int(binary.BigEndian.Uint32([]byte(body[1:5]))) {
		t.Fatalf("body %q", body)
	}
	n := 5 + int(binary.BigEndian.Uint32([]byte(body[1:5])))
	return []byte(body[5:n]), body[n:]
}

// Request trailers pass no rule for headers: what would be an identity or a
// credential in them does not reach the back end.
func TestForgedTrailers(t *testing.T) {
	g := newGateway(t, setup{apis: func(b map[string]*envoytest.Backend) []*keymanager.API {
		b["h2"] = envoytest.HTTP2(t)
		return []*keymanager.API{
			api("grpc", "/pkg.Service", "", func(a *keymanager.API) {
				a.Protocol, a.Production = keymanager.GRPC, []string{b["h2"].URL("")}
			}),
			api("h2", "/h2", "1", func(a *keymanager.API) {
				a.Protocol, a.Production = keymanager.HTTP2, []string{b["h2"].URL("/x")}
			}),
		}
	}})
	g.authz.Allow(envoytest.OK(envoy.HeaderUser, "alice"))
	var trailer []envoytest.Field
	for _, name := range []string{
		envoy.HeaderUser, envoy.HeaderEnv, envoy.HeaderContext, "x-tollgate-anything", "x-envoy-original-path", "x-jwt-assertion",
		"authorization", "apikey", "x-t",
	} {
		trailer = append(trailer, envoytest.Field{Name: name, Value: "forged"})
	}
	for path, fields := range map[string][]string{
		"/pkg.Service/Call": {"content-type", "application/grpc", "te", "trailers"}, "/h2/1/x": nil,
	} {
		t.Run("E50 "+path, func(t *testing.T) {
			g.forget()
			r := envoytest.DialH2(t, g.addr).Do(envoytest.H2Request{
				Fields: envoytest.Pseudo("POST", path, host, fields...), Body: "\x00\x00\x00\x00\x00", Trailer: trailer,
			})
			if r.Status != 200 {
				t.Fatalf("got %+v", r)
			}
			seen := g.reached(t, "h2")
			if want := []envoytest.Field{{Name: "x-t", Value: "forged"}}; !slices.Equal(seen.Trailer, want) {
				t.Errorf("the back end saw the trailers %v, want %v", seen.Trailer, want)
			}
			if got := seen.Get(envoy.HeaderUser); !slices.Equal(got, []string{"alice"}) {
				t.Errorf("the back end saw the users %q", got)
			}
		})
	}
}
