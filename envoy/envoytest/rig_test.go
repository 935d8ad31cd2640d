package envoytest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackendTellsWhatReachedIt(t *testing.T) {
	b := HTTP1(t)
	res := Raw(t, b.Addr(), "POST /a%zz//b?c=%2F HTTP/1.1\r\nHost: API.example.com\r\nX-A: 1\r\nx-a: \xff\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 2\r\n\r\n")
	want := Seen{
		Method: "POST", Path: "/a%zz//b?c=%2F", Host: "API.example.com", Body: "abc",
		Headers: []Field{{"x-a", "1"}, {"x-a", "\xff"}, {"transfer-encoding", "chunked"}},
		Trailer: []Field{{"x-t", "2"}},
	}
	if diff := cmp.Diff([]Seen{want}, b.Seen()); diff != "" {
		t.Error(diff)
	}
	var echoed struct{ Method, Path string }
	if err := json.Unmarshal([]byte(res.Body), &echoed); err != nil || res.Status != 200 || echoed.Path != want.Path {
		t.Errorf("got %+v, %v", res, err)
	}
	b.Forget()
	b.Respond(func(Seen) Response {
		return Response{Status: 418, Body: "teapot", Headers: []Field{{"x-b", "3"}}}
	})
	if res := Get(t, b.Addr(), "/", "x"); res.Status != 418 || res.Body != "teapot" || res.Header.Get("X-B") != "3" {
		t.Errorf("got %+v", res)
	}
	b.Respond(func(Seen) Response { return Response{Cut: true} })
	if res := Get(t, b.Addr(), "/", "x"); res.Status != 0 || res.Reset == "" {
		t.Errorf("got %+v", res)
	}
	b.Stop()
	if _, err := net.Dial("tcp", b.Addr()); err == nil {
		t.Error("a stopped back end takes connections")
	}
	b.Start()
	b.Respond(nil)
	if res := Get(t, b.Addr(), "/", "x"); res.Status != 200 {
		t.Errorf("got %+v", res)
	}
}

func TestHTTP2SendsAndTellsEverything(t *testing.T) {
	b := HTTP2(t)
	h := DialH2(t, b.Addr())
	res := h.Do(H2Request{
		Fields: Pseudo("FOO", "/a b%zz", "x", "x-a", "1", "x-a", "2"), Body: "abc",
		Trailer: []Field{{"x-t", "3"}},
	})
	want := Seen{
		Method: "FOO", Path: "/a b%zz", Host: "x", Headers: []Field{{"x-a", "1"}, {"x-a", "2"}}, Body: "abc",
		Trailer: []Field{{"x-t", "3"}},
	}
	if diff := cmp.Diff([]Seen{want}, b.Seen()); diff != "" || res.Status != 200 {
		t.Errorf("got %+v\n%s", res, diff)
	}
	if res := h.Get("/", "x"); res.Status != 200 || res.Body == "" {
		t.Errorf("the second stream: %+v", res)
	}
	b.Stop()
	if res := h.Get("/", "x"); res.Reset == "" {
		t.Errorf("got %+v", res)
	}
}

func TestScriptedAuthz(t *testing.T) {
	a := NewAuthz(t)
	conn, err := grpc.NewClient("unix://"+a.Path(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := authv3.NewAuthorizationClient(conn)
	call := func(timeout time.Duration) (*authv3.CheckResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: map[string]string{"api_id": "pets"}}}, grpc.WaitForReady(true))
	}
	if res, err := call(Patience); err != nil || res.GetStatus().GetCode() != 0 || res.GetOkResponse() == nil {
		t.Errorf("by default: %v, %v", res, err)
	}
	a.Allow(Deny(403, "no", "x-a", "1"))
	if res, err := call(Patience); err != nil || res.GetDeniedResponse().GetBody() != "no" {
		t.Errorf("denied: %v, %v", res, err)
	}
	for want, ans := range map[codes.Code]Answer{
		codes.Unavailable: {Status: codes.Unavailable}, codes.DeadlineExceeded: {Hang: true}, codes.Internal: {Reset: true},
	} {
		a.Answer(ans)
		timeout := Patience
		if ans.Hang {
			timeout = 100 * time.Millisecond
		}
		if _, err := call(timeout); status.Code(err) != want {
			t.Errorf("%+v: %v", ans, err)
		}
	}
	calls := a.Calls()
	if len(calls) != 5 || API(calls[0]) != "pets" {
		t.Errorf("calls %v", calls)
	}
	a.Forget()
	a.Answer(Answer{})
	a.Stop()
	a.Stop()
	if _, err := net.Dial("unix", a.Path()); err == nil {
		t.Error("a stopped authz takes connections")
	}
	a.Start()
	Eventually(t, func() error { // the client may not yet have noticed that its connection is cut
		_, err := call(Patience)
		return err
	})
	if len(a.Calls()) != 1 {
		t.Errorf("after its return: %d calls", len(a.Calls()))
	}
}

func TestDNS(t *testing.T) {
	d := NewDNS(t)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", d.Addr())
	}}
	look := func(timeout time.Duration) ([]string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return r.LookupHost(ctx, "pets.internal")
	}
	if got, err := look(Patience); err != nil || !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if d.Asked("pets.internal") == 0 {
		t.Error("it does not remember the question")
	}
	d.Dead(true)
	if got, err := look(100 * time.Millisecond); err == nil {
		t.Errorf("a dead server answered %v", got)
	}
	d.Dead(false)
	d.Delay(Patience)
	if got, err := look(100 * time.Millisecond); err == nil {
		t.Errorf("a slow server answered %v", got)
	}
}

func TestGRPC(t *testing.T) {
	g := NewGRPC(t)
	c := DialGRPC(t, g.Addr(), "api.example.com")
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if res, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: Payload("hi")}); err != nil ||
		string(res.GetPayload().GetBody()) != "hi" {
		t.Errorf("unary: %v, %v", res, err)
	}
	out, err := c.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{
		Payload: Payload("x"), ResponseParameters: make([]*grpc_testing.ResponseParameters, 3)})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, err := out.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != 3 || len(g.Seen()) != 2 || g.Seen()[0].Get(":authority")[0] != "api.example.com" {
		t.Errorf("%d messages, seen %v", n, g.Seen())
	}
}
