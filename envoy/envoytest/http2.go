package envoytest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// H2 is an HTTP/2 client without TLS that sends what it is told to: any method,
// any :path, pseudo headers twice or not at all, trailers.
type H2 struct {
	t    testing.TB
	conn net.Conn
	f    *frames
	next uint32
}

// H2Request is one request of an H2 client.
type H2Request struct {
	// Fields are sent as they are, in order; pseudo headers first.
	Fields  []Field
	Body    string
	Trailer []Field
	// Open leaves the request unfinished: the answer may still come.
	Open bool
}

// DialH2 connects with prior knowledge.
func DialH2(t testing.TB, addr string) *H2 {
	t.Helper()
	c, err := (&net.Dialer{Timeout: Patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	h := &H2{t: t, conn: c, f: newFrames(c), next: 1}
	if err := h.f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return h
}

// Pseudo returns the fields of a request: its pseudo headers and more fields
// (name, value ...).
func Pseudo(method, path, authority string, more ...string) []Field {
	out := []Field{{":method", method}, {":scheme", "http"}, {":authority", authority}, {":path", path}}
	for i := 0; i+1 < len(more); i += 2 {
		out = append(out, Field{more[i], more[i+1]})
	}
	return out
}

// Get sends GET path and returns the answer.
func (h *H2) Get(path, authority string, more ...string) Reply {
	h.t.Helper()
	return h.Do(H2Request{Fields: Pseudo("GET", path, authority, more...)})
}

// Do sends a request on a new stream and reads until that stream or the
// connection ends.
func (h *H2) Do(r H2Request) Reply {
	h.t.Helper()
	id := h.next
	h.next += 2
	last := r.Body == "" && r.Trailer == nil && !r.Open
	if err := h.f.headers(id, r.Fields, last); err != nil {
		return Reply{Reset: err.Error()}
	}
	if r.Body != "" {
		if err := h.f.WriteData(id, r.Trailer == nil && !r.Open, []byte(r.Body)); err != nil {
			return Reply{Reset: err.Error()}
		}
	}
	if r.Trailer != nil {
		if err := h.f.headers(id, r.Trailer, true); err != nil {
			return Reply{Reset: err.Error()}
		}
	}
	out := Reply{Header: http.Header{}, Trailer: http.Header{}}
	for {
		fr, err := h.f.read()
		if err != nil {
			out.Reset = err.Error()
			return out
		}
		switch fr := fr.(type) {
		case *http2.GoAwayFrame:
			if fr.ErrCode != http2.ErrCodeNo {
				out.Reset = "GOAWAY " + fr.ErrCode.String()
				return out
			}
		case *http2.RSTStreamFrame:
			if fr.StreamID == id {
				out.Reset = fr.ErrCode.String()
				return out
			}
		case *http2.MetaHeadersFrame:
			if fr.StreamID != id {
				continue
			}
			into := out.Header
			if out.Status != 0 {
				into = out.Trailer
			}
			for _, f := range fr.Fields {
				if f.Name == ":status" {
					status, _ := strconv.Atoi(f.Value)
					if status >= 200 {
						out.Status = status
					}
					continue
				}
				into.Add(f.Name, f.Value)
			}
			if fr.StreamEnded() {
				return out
			}
		case *http2.DataFrame:
			if fr.StreamID != id {
				continue
			}
			out.Body += string(fr.Data())
			if fr.StreamEnded() {
				return out
			}
		}
	}
}

// frames reads and writes the frames of one connection.
type frames struct {
	*http2.Framer
	mu  sync.Mutex // of writing
	enc *hpack.Encoder
	buf bytes.Buffer
}

func newFrames(c net.Conn) *frames {
	f := &frames{Framer: http2.NewFramer(c, c)}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.buf)
	return f
}

func (f *frames) headers(id uint32, fields []Field, last bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buf.Reset()
	for _, h := range fields {
		if err := f.enc.WriteField(hpack.HeaderField{Name: h.Name, Value: h.Value}); err != nil {
			return err
		}
	}
	// A block above the frame size goes on in CONTINUATION frames.
	block := f.buf.Bytes()
	first := block[:min(len(block), 16384)]
	if err := f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndStream: last, EndHeaders: len(first) == len(block),
	}); err != nil {
		return err
	}
	for block = block[len(first):]; len(block) > 0; {
		n := min(len(block), 16384)
		if err := f.WriteContinuation(id, n == len(block), block[:n]); err != nil {
			return err
		}
		block = block[n:]
	}
	return nil
}

// read returns the next frame that says something about a stream, and answers
// the others as the protocol wants: settings, pings, flow control.
func (f *frames) read() (http2.Frame, error) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				err = f.WritePing(true, fr.Data)
			}
		case *http2.DataFrame:
			if n := fr.Length; n > 0 {
				if err = f.WriteWindowUpdate(0, n); err == nil && !fr.StreamEnded() {
					err = f.WriteWindowUpdate(fr.StreamID, n)
				}
			}
		}
		f.mu.Unlock()
		switch fr.(type) {
		case *http2.SettingsFrame, *http2.PingFrame, *http2.WindowUpdateFrame, *http2.PriorityFrame:
			if err != nil {
				return nil, err
			}
			continue
		}
		return fr, nil
	}
}

// serveHTTP2 answers requests on a connection until it ends.
func (b *Backend) serveHTTP2(c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	f := newFrames(c)
	if f.WriteSettings() != nil {
		return
	}
	open := map[uint32]*Seen{}
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		fr, err := f.read()
		if err != nil {
			return
		}
		id, ended := fr.Header().StreamID, false
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			var fields []Field
			for _, h := range fr.Fields {
				fields = append(fields, Field{h.Name, h.Value})
			}
			if s := open[id]; s != nil {
				s.Trailer = fields
			} else {
				s := split(fields)
				open[id] = &s
			}
			ended = fr.StreamEnded()
		case *http2.DataFrame:
			if s := open[id]; s != nil {
				s.Body += string(fr.Data())
			}
			ended = fr.StreamEnded()
		case *http2.RSTStreamFrame:
			delete(open, id)
		}
		if s := open[id]; s != nil && ended {
			delete(open, id)
			wait.Go(func() { b.answerHTTP2(c, f, id, *s) })
		}
	}
}

func (b *Backend) answerHTTP2(c net.Conn, f *frames, id uint32, s Seen) {
	res := b.answer(s)
	if res.Cut {
		_ = c.Close()
		return
	}
	grpc := strings.HasPrefix(strings.Join(s.Get("content-type"), ""), "application/grpc")
	fields := []Field{{":status", fmt.Sprint(res.Status)}}
	if grpc { // an empty message and a status: enough for any client
		fields = append(fields, Field{"content-type", "application/grpc"})
		res.Body = "\x00\x00\x00\x00\x00"
	} else {
		fields = append(fields, res.Headers...)
	}
	if f.headers(id, fields, false) != nil {
		return
	}
	f.mu.Lock()
	err := f.WriteData(id, !grpc, []byte(res.Body))
	f.mu.Unlock()
	if err == nil && grpc {
		_ = f.headers(id, []Field{{"grpc-status", "0"}}, true)
	}
}
