//go:build !short

package xds_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tollgate/envoy/envoytest"
	"tollgate/xds"
)

// Clients that send too much, too slowly or too often are stopped before
// anybody is asked about them.
func TestClientLimits(t *testing.T) {
	g := newGateway(t, setup{})
	header := func(n, size int) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("x-h-%d: %s", i, strings.Repeat("v", size)))
		}
		return lines
	}
	for _, tt := range []struct {
		name   string
		lines  []string
		status int
	}{
		// What Envoy and authz add counts too, and is 500 when it is too much.
		{"60 headers", header(60, 1), 200},
		{"81 headers", header(81, 1), 431},
		{"31 KiB of headers", header(31, 1000), 200},
		{"33 KiB of headers", header(33, 1024), 431},
		{"a line of 33 KiB", header(1, 33<<10), 431},
	} {
		t.Run("E15 "+tt.name, func(t *testing.T) {
			w := want{status: tt.status}
			if tt.status == 200 {
				w = want{200, "orders", "/orders/2.0/x", "orders", "/orders/2.0/x"}
			}
			g.try(t, w, func() envoytest.Reply { return g.get(t, "/orders/2.0/x", tt.lines...) })
			fields := envoytest.Pseudo("GET", "/orders/2.0/x", host)
			for _, l := range tt.lines {
				name, value, _ := strings.Cut(l, ": ")
				fields = append(fields, envoytest.Field{Name: name, Value: value})
			}
			if tt.status != 200 {
				w.status = 0
			}
			r := g.try(t, w, func() envoytest.Reply { return envoytest.DialH2(t, g.addr).Do(envoytest.H2Request{Fields: fields}) })
			if tt.status != 200 && r.Reset == "" {
				t.Errorf("HTTP/2: %+v", r)
			}
		})
	}
	t.Run("E15 the 101st stream", func(t *testing.T) {
		g.forget()
		h := dialFrames(t, g.addr)
		for i := range 100 {
			must(t, h.open(uint32(2*i+1)))
		}
		// Each waits for its body; one more is refused, and the others go on.
		must(t, h.open(201))
		h.until(func(f http2.Frame) bool {
			r, ok := f.(*http2.RSTStreamFrame)
			if ok && (r.StreamID != 201 || r.ErrCode != http2.ErrCodeRefusedStream) {
				t.Errorf("stream %d: %v", r.StreamID, r.ErrCode)
			}
			return ok
		})
		must(t, h.f.WriteData(1, true, nil))
		h.until(func(f http2.Frame) bool {
			m, ok := f.(*http2.MetaHeadersFrame)
			return ok && m.StreamID == 1 && m.PseudoValue("status") == "200"
		})
	})
	t.Run("E15 rapid reset", func(t *testing.T) {
		h := dialFrames(t, g.addr)
		_ = h.conn.SetDeadline(time.Now().Add(envoytest.Patience)) // before the keep-alive of Envoy ends it
		go func() {                                                // CVE-2023-44487: open, reset, and never wait
			for i := uint32(1); i < 40000; i += 2 {
				if h.open(i) != nil || h.f.WriteRSTStream(i, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}()
		h.until(func(f http2.Frame) bool { return f == nil })
	})
	// Both take ten seconds, at the same time.
	pair := envoytest.NewCA(t).Issue(envoytest.Leaf{DNS: []string{host}})
	secure := newGateway(t, setup{
		group: func(gr *xds.Group) { gr.Listeners[0].TLS = &xds.ListenerTLS{Certificates: []string{"edge"}} },
		options: func(o *xds.Options) {
			o.Certificates = map[string]xds.Certificate{"edge": {CertPEM: pair.Cert, KeyPEM: pair.Key}}
		},
	})
	slow, shy := dialTCP(t, g.addr), dialTCP(t, secure.addr)
	_, err := io.WriteString(slow, "GET /orders/2.0/x HTTP/1.1\r\nHost: "+host+"\r\nx-slow: ")
	must(t, err)
	_, err = shy.Write([]byte{22, 3, 1, 2, 0, 1}) // the head of a ClientHello
	must(t, err)
	t.Run("E15 slow headers", func(t *testing.T) {
		answer, err := io.ReadAll(slow)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
			t.Errorf("answer %q %v", answer, err)
		}
	})
	t.Run("E15 a handshake that never ends", func(t *testing.T) {
		if answer, err := io.ReadAll(shy); err != nil || len(answer) > 0 {
			t.Errorf("answer %q %v", answer, err)
		}
	})
}

// dialTCP connects, for longer than ten times what the gateway grants.
func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: envoytest.Patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(110 * time.Second))
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// streams is an HTTP/2 connection whose streams are opened at will.
type streams struct {
	t    *testing.T
	conn net.Conn
	f    *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
}

func dialFrames(t *testing.T, addr string) *streams {
	t.Helper()
	c := dialTCP(t, addr)
	h := &streams{t: t, conn: c, f: http2.NewFramer(c, c)}
	h.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.enc = hpack.NewEncoder(&h.buf)
	_, err := io.WriteString(c, http2.ClientPreface)
	if err == nil {
		err = h.f.WriteSettings()
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// open begins a request whose body is still to come.
func (h *streams) open(stream uint32) error {
	h.buf.Reset()
	for _, f := range envoytest.Pseudo("POST", "/orders/2.0/x", host) {
		if err := h.enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}); err != nil {
			return err
		}
	}
	return h.f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.buf.Bytes(), EndHeaders: true})
}

// until reads frames up to the one that is waited for; the end of the
// connection is nil.
func (h *streams) until(found func(http2.Frame) bool) {
	h.t.Helper()
	for {
		f, err := h.f.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			h.t.Fatal("it does not come")
		case err != nil:
			if !found(nil) {
				h.t.Fatalf("the connection ended: %v", err)
			}
			return
		case found(f):
			return
		}
	}
}
