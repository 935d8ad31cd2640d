//go:build !short

package bootstrap_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/envoy/process"
)

// draining is an Envoy with the admin interface that a gateway has, whose authz
// holds every call.
type draining struct {
	*envoytest.Envoy
	authz        *checks
	gate         chan struct{}
	addr, health string
	admin        *process.Admin
}

func newDraining(t *testing.T) *draining {
	t.Helper()
	d := &draining{authz: &checks{}, gate: make(chan struct{})}
	socket := filepath.Join(envoytest.Dir(t), "authz.sock")
	d.authz.serve(t, listen(t, "unix", socket))
	d.Envoy = envoytest.Start(t, envoytest.Options{
		XDS: "/tmp/nobody.sock", Authz: socket, Listeners: []string{"tcp-0", "health"}, DrainTime: time.Second,
		Bootstrap: func(o *bootstrap.Options) { o.OpenAdmin, o.Health = false, "127.0.0.1:0" },
		Raw:       withoutXDS(t, nil),
	})
	d.addr, d.health = d.Addr("tcp-0"), d.Addr("health")
	ctx, cancel := context.WithTimeout(t.Context(), envoytest.Patience)
	defer cancel()
	var err error
	if d.admin, err = d.Admin(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

// inFlight sends a request that authz holds, and returns what its answer will
// be.
func (d *draining) inFlight(t *testing.T) <-chan envoytest.Reply {
	t.Helper()
	d.authz.gate.Store(&d.gate)
	before := d.authz.waiting.Load()
	out := make(chan envoytest.Reply, 1)
	go func() { out <- envoytest.Get(t, d.addr, "/slow", "localhost") }()
	envoytest.Eventually(t, func() error {
		if d.authz.waiting.Load() != before+1 {
			return errors.New("the request has not reached authz")
		}
		return nil
	})
	d.authz.gate.Store(nil)
	return out
}

// A drain in order cuts nobody: clients are told to go, the ports close, the
// last request ends, and only then is there nothing for SIGTERM to cut.
func TestDrain(t *testing.T) {
	t.Run("E47 in order", func(t *testing.T) {
		d := newDraining(t)
		slow := d.inFlight(t)
		h2 := newH2Watch(t, d.addr)
		steps, on, drained := make(chan string), make(chan struct{}), make(chan error, 1)
		go func() {
			drained <- d.admin.Drain(context.Background(), process.DrainOptions{
				Balancer: time.Millisecond, Rest: envoytest.Patience,
				Said: func(s string) {
					steps <- s
					<-on
				},
			})
		}()
		<-steps // health checks fail, and new connections are still served
		if r := envoytest.Get(t, d.health, "/healthz", "localhost"); r.Status != http.StatusServiceUnavailable {
			t.Errorf("/healthz is %d", r.Status)
		}
		c := dial(t, d.addr)
		_, _ = io.WriteString(c, envoytest.Request("GET", "/", "localhost"))
		answer, err := io.ReadAll(c) // Envoy closes the connection
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") || !strings.Contains(string(answer), "\nconnection: close\r\n") {
			t.Errorf("%q, %v", answer, err)
		}
		h2.request(t)
		h2.goneAway(t)
		on <- struct{}{}
		<-steps // the listeners drain
		on <- struct{}{}
		envoytest.Eventually(t, func() error {
			c, err := net.DialTimeout("tcp", d.addr, envoytest.Patience)
			if err == nil {
				_ = c.Close()
				return errors.New("the port is still open")
			}
			return nil
		})
		select {
		case err := <-drained:
			t.Fatalf("drained with a request in flight: %v", err)
		default:
		}
		close(d.gate)
		if r := <-slow; r.Status != http.StatusOK || r.Body != "hello" {
			t.Errorf("the request in flight: %d %s", r.Status, r.Reset)
		}
		<-steps // nobody is left
		on <- struct{}{}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		d.end(t)
	})
	t.Run("E47 a request that does not end", func(t *testing.T) {
		d := newDraining(t)
		slow := d.inFlight(t)
		err := d.admin.Drain(t.Context(), process.DrainOptions{Rest: 3 * time.Second})
		if err == nil || !strings.Contains(err.Error(), "1 requests on 1 connections are left") {
			t.Errorf("error %v", err)
		}
		close(d.gate)
		if r := <-slow; r.Status != http.StatusOK {
			t.Errorf("the request in flight: %d %s", r.Status, r.Reset)
		}
	})
	t.Run("E47 control: SIGTERM alone cuts", func(t *testing.T) {
		d := newDraining(t)
		slow := d.inFlight(t)
		d.end(t)
		if r := <-slow; r.Status == http.StatusOK {
			t.Errorf("status %d: the test shows nothing", r.Status)
		}
	})
}

// end sends SIGTERM and waits until Envoy has ended.
func (d *draining) end(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(d.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Done():
	case <-time.After(envoytest.Patience):
		t.Fatal("Envoy still runs")
	}
}

// h2Watch is an HTTP/2 connection and what came on it.
type h2Watch struct {
	conn   net.Conn
	framer *http2.Framer
	next   uint32
}

func newH2Watch(t *testing.T, addr string) *h2Watch {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	w := &h2Watch{conn: c, framer: http2.NewFramer(c, bufio.NewReader(c)), next: 1}
	if err := w.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return w
}

// request sends GET / as literal header fields (RFC 7541 section 6.2.2).
func (w *h2Watch) request(t *testing.T) {
	t.Helper()
	var block []byte
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "localhost"}, {":path", "/"}} {
		block = append(block, 0)
		for _, s := range f {
			block = append(append(block, byte(len(s))), s...)
		}
	}
	err := w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: w.next, BlockFragment: block, EndStream: true, EndHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
	w.next += 2
}

// goneAway reads until the server has answered the request and said that it
// takes no further one.
func (w *h2Watch) goneAway(t *testing.T) {
	t.Helper()
	var got []string
	for !slices.Contains(got, "GOAWAY NO_ERROR") || !slices.Contains(got, "answered") {
		f, err := w.framer.ReadFrame()
		if err != nil {
			t.Errorf("%v, then %v", got, err)
			return
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			got = append(got, fmt.Sprintf("GOAWAY %s", f.ErrCode))
		case *http2.DataFrame:
			if f.StreamEnded() {
				got = append(got, "answered")
			}
		}
	}
}
