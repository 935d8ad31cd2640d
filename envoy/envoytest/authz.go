package envoytest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Answer is what the scripted authz does with a call. Exactly one field is set;
// none is an OK without a header.
type Answer struct {
	Response *authv3.CheckResponse
	Status   codes.Code    // the call fails with it
	Hang     bool          // never answers: until the caller gives up
	Reset    bool          // resets the stream
	Delay    time.Duration // waits before an OK
}

// Authz plays authz: a gRPC server on a Unix socket that answers by script and
// remembers what it was asked. It is written on net/http, since a gRPC library
// cannot reset a stream.
type Authz struct {
	t    testing.TB
	path string

	mu     sync.Mutex
	server *http.Server
	ended  chan struct{} // of the running server
	script func(*authv3.CheckRequest) Answer
	calls  []*authv3.CheckRequest
}

// NewAuthz starts an authz that allows everything.
func NewAuthz(t testing.TB) *Authz {
	t.Helper()
	a := &Authz{t: t, path: filepath.Join(Dir(t), "authz.sock")}
	a.Start()
	t.Cleanup(a.Stop)
	return a
}

// Path returns the Unix socket.
func (a *Authz) Path() string { return a.path }

// Start listens on the socket, again after Stop.
func (a *Authz) Start() {
	a.t.Helper()
	a.listen(a.path)
}

func (a *Authz) listen(path string) {
	a.t.Helper()
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		a.t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false) // else the end of the old server removes the socket of the new
	srv := &http.Server{
		Handler: http.HandlerFunc(a.check), Protocols: new(http.Protocols), ReadHeaderTimeout: Patience,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	srv.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	a.mu.Lock()
	a.server, a.ended = srv, ended
	a.mu.Unlock()
	go func() {
		defer close(ended)
		if err := srv.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			a.t.Errorf("authz: %v", err)
		}
	}()
}

// Stop ends the server at once, as a kill would: the socket is gone, every
// connection is cut.
func (a *Authz) Stop() {
	a.mu.Lock()
	srv, ended := a.server, a.ended
	a.server = nil
	a.mu.Unlock()
	if srv == nil {
		return
	}
	_ = os.Remove(a.path)
	_ = srv.Close()
	<-ended
}

// HandOver replaces the server by a new one as a planned restart does: the new
// socket takes the place of the old, which ends when its calls are answered. It
// returns when the old server has ended.
func (a *Authz) HandOver() {
	a.t.Helper()
	a.mu.Lock()
	old, ended := a.server, a.ended
	a.mu.Unlock()
	fresh := a.path + ".new"
	a.listen(fresh)
	if err := os.Rename(fresh, a.path); err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := old.Shutdown(ctx); err != nil {
		a.t.Errorf("authz: %v", err)
	}
	<-ended
}

// Script sets what is answered from now on; fn is called concurrently.
func (a *Authz) Script(fn func(*authv3.CheckRequest) Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script = fn
}

// Answer gives every call from now on the same answer.
func (a *Authz) Answer(ans Answer) { a.Script(func(*authv3.CheckRequest) Answer { return ans }) }

// Allow answers every call from now on with r, an OK unless it says otherwise.
func (a *Authz) Allow(r *authv3.CheckResponse) { a.Answer(Answer{Response: r}) }

// Calls returns what was asked since the last Forget.
func (a *Authz) Calls() []*authv3.CheckRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*authv3.CheckRequest(nil), a.calls...)
}

// Forget drops the calls so far.
func (a *Authz) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = nil
}

// check serves one Check over HTTP/2: a 5-byte frame with the message each way,
// and the status in the trailers (gRPC over HTTP/2).
func (a *Authz) check(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // the connection was cut
		panic(http.ErrAbortHandler)
	}
	if len(body) < 5 || r.URL.Path != "/envoy.service.auth.v3.Authorization/Check" {
		a.t.Errorf("authz: %s with %d bytes", r.URL.Path, len(body))
		panic(http.ErrAbortHandler)
	}
	req := new(authv3.CheckRequest)
	if err := proto.Unmarshal(body[5:], req); err != nil {
		// As a gRPC server would: the call fails, and Envoy must not let it pass.
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(codes.Internal)))
		return
	}
	a.mu.Lock()
	a.calls = append(a.calls, req)
	script := a.script
	a.mu.Unlock()
	ans := Answer{}
	if script != nil {
		ans = script(req)
	}
	switch {
	case ans.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case ans.Reset:
		panic(http.ErrAbortHandler)
	case ans.Status != codes.OK:
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(ans.Status)))
		return
	case ans.Response == nil:
		ans.Response = OK()
	}
	if ans.Delay > 0 {
		select {
		case <-time.After(ans.Delay):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	msg, err := proto.Marshal(ans.Response)
	if err != nil {
		a.t.Errorf("authz: the scripted answer: %v", err)
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg)))
	_, _ = w.Write(append(frame, msg...))
	w.Header().Set("Grpc-Status", "0")
}
