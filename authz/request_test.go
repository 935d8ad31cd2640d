package authz

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func marshal(t testing.TB, m proto.Message) string {
	t.Helper()
	b, err := proto.Marshal(m)
	must(t, err)
	return string(b)
}

func TestParse(t *testing.T) {
	m := call{method: "POST", path: "/pets/1.0.0/x?y=1", extensions: map[string]string{"rev": "18446744073709551", "gw": "edge", "other": "x"}, headers: []string{
		"authorization", "Bearer a", "apikey", "k1", "apikey", "k2", "x-envoy-external-address", "192.0.2.1", "referer", "r",
		"x-request-id", "id", "accept", "a/b", "content-type", "application/grpc+proto", "unknown", "\xff\xfe",
	}}.message()
	want := Request{
		API: "api-pets", Rev: 18446744073709551, Gateway: "edge", Method: "POST", Path: "/pets/1.0.0/x?y=1",
		Authorization: Header{"Bearer a", 1}, APIKey: Header{"k2", 2}, ClientAddress: Header{"192.0.2.1", 1}, Referer: Header{"r", 1},
		RequestID: "id", Accept: "a/b", ContentType: "application/grpc+proto",
	}
	var got Request
	if !got.parse(marshal(t, m)) {
		t.Fatal("refused")
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(Request{})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if !got.grpc() {
		t.Error("a gRPC caller is not recognised")
	}
}

// TestParseMergesLikeProtobuf: whatever comes twice is merged, as every other
// reader of the encoding does it.
func TestParseMergesLikeProtobuf(t *testing.T) {
	a := call{path: "/a", extensions: map[string]string{"rev": "1"}, headers: []string{"apikey", "k1"}}.message()
	b := call{path: "/b", extensions: map[string]string{"rev": "2"}, headers: []string{"apikey", "k2"}}.message()
	var got Request
	if !got.parse(marshal(t, a) + marshal(t, b)) {
		t.Fatal("refused")
	}
	if got.Path != "/b" || got.Rev != 2 || got.APIKey != (Header{"k2", 2}) {
		t.Errorf("%+v", got)
	}
}

func TestParseHeadersOfAnUnencodedMap(t *testing.T) {
	m := call{path: "/a"}.message()
	m.Attributes.Request.Http.Headers = map[string]string{"authorization": "Bearer a", "apikey": "k"}
	var got Request
	if !got.parse(marshal(t, m)) || got.Authorization != (Header{"Bearer a", 1}) || got.APIKey != (Header{"k", 1}) {
		t.Errorf("%+v", got)
	}
}

func TestParseMalformed(t *testing.T) {
	whole := marshal(t, call{path: "/a", headers: []string{"apikey", "k1"}}.message())
	var r Request
	for n := range len(whole) {
		r = Request{}
		if n > 0 && r.parse(whole[:n]) {
			t.Errorf("cut at %d of %d: taken", n, len(whole))
		}
	}
	for name, message := range map[string]string{
		"number of a field is 0": "\x00\x01",
		"group":                  "\x0b\x0c",
		"length beyond the end":  "\x0a\x05abc",
		"length of 64 bits":      "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"endless varint":         "\x08" + strings.Repeat("\xff", 11),
		"overflowing varint":     "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
		"short fixed64":          "\x091234567",
		"short fixed32":          "\x0d123",
	} {
		r = Request{}
		if r.parse(message) {
			t.Errorf("%s: taken", name)
		}
	}
	for name, message := range map[string]string{
		"empty":                     "",
		"unknown fields":            "\x10\x01\x19\x31\x32\x33\x34\x35\x36\x37\x38\x25\x31\x32\x33\x34\x2a\x01x",
		"varint where a message is": "\x08\x01",
	} {
		r = Request{}
		if !r.parse(message) {
			t.Errorf("%s: refused", name)
		}
	}
}

func TestDecimal(t *testing.T) {
	for s, want := range map[string]uint64{"0": 0, "1": 1, "00017": 17, "9999999999999999999": 9999999999999999999} {
		if n, bad := decimal(s); bad || n != want {
			t.Errorf("%q is %d, %t", s, n, bad)
		}
	}
	for _, s := range []string{"", "-1", "+1", " 1", "1 ", "1x", "0x1", "99999999999999999999", "١"} {
		if n, bad := decimal(s); !bad {
			t.Errorf("%q is %d", s, n)
		}
	}
}

// FuzzParse holds the reader against the generated one: what both take, both
// read alike.
func FuzzParse(f *testing.F) {
	f.Add([]byte(marshal(f, call{path: "/a?b", headers: []string{"apikey", "k", "authorization", "Bearer x"}}.message())))
	f.Add([]byte("\x0a\x00"))
	f.Add([]byte("\x0a\x0aR\x08\x0a\x03rev\x1a\x010")) // a map has no third field
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Request
		var m authv3.CheckRequest
		if !got.parse(string(b)) || proto.Unmarshal(b, &m) != nil {
			return
		}
		want := reference(&m)
		// A map cannot show what came twice, nor in which order; we count it.
		if len(m.GetAttributes().GetRequest().GetHttp().GetHeaders()) > 0 {
			got.RequestID, got.Accept, got.ContentType = want.RequestID, want.Accept, want.ContentType
		}
		for _, h := range []struct{ got, want *Header }{
			{&got.Authorization, &want.Authorization}, {&got.APIKey, &want.APIKey},
			{&got.ClientAddress, &want.ClientAddress}, {&got.Referer, &want.Referer},
		} {
			if h.got.Count > 1 && h.got.Count >= h.want.Count && h.want.Count > 0 {
				*h.got = *h.want
			}
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(Request{})); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	})
}

// reference reads a decoded message.
func reference(m *authv3.CheckRequest) (r Request) {
	http := m.GetAttributes().GetRequest().GetHttp()
	r.Method, r.Path = http.GetMethod(), http.GetPath()
	for name, value := range m.GetAttributes().GetContextExtensions() {
		r.extension(mapEntry(name, value))
	}
	for name, value := range http.GetHeaders() {
		r.header(name, value, true)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		r.header(h.GetKey(), oneOf(h), true)
	}
	return r
}

func oneOf(h *corev3.HeaderValue) string {
	if len(h.GetRawValue()) > 0 {
		return string(h.GetRawValue())
	}
	return h.GetValue()
}

func mapEntry(name, value string) string {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendString(b, name)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return string(protowire.AppendString(b, value))
}
