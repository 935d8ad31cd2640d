package authz

import (
	"strings"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// Request is what authz needs to know of a request. Its strings are parts of
// the received message.
type Request struct {
	API     keymanager.APIID // of the route that Envoy matched
	Rev     uint64           // log position of the API's last change, as the route has it
	Gateway string           // group of the gateway

	Method string
	Path   string // as Envoy normalised it, with the query

	Authorization Header
	APIKey        Header
	ClientAddress Header // x-envoy-external-address
	Referer       Header
	// Subprotocols are those that a WebSocket handshake offers; lines are joined.
	Subprotocols string

	RequestID   string
	Accept      string
	ContentType string

	badRev bool // the route has a revision that is not a number
}

// Header is a request header and how often it came. Envoy joins the lines of
// some headers with commas; others stay apart.
type Header struct {
	Value string // of the last one
	Count int
}

// only returns the value of a header that came exactly once.
func (h Header) only() (string, bool) { return h.Value, h.Count == 1 }

// Numbers of the fields that are read (envoy/service/auth/v3).
const (
	checkAttributes = 1 // CheckRequest

	attributesRequest    = 4 // AttributeContext
	attributesExtensions = 10

	requestHTTP = 2 // AttributeContext.Request

	httpMethod    = 2 // AttributeContext.HttpRequest
	httpHeaders   = 3
	httpPath      = 4
	httpHeaderMap = 13

	headerMapHeaders = 1 // config.core.v3.HeaderMap

	pairKey   = 1 // an entry of a map, and config.core.v3.HeaderValue
	pairValue = 2
	headerRaw = 3 // HeaderValue alone
)

// parse reads an encoded CheckRequest, in place and without the fields that
// nobody asks for. It reports whether the message is well formed as far as it
// was read. Fields that come twice are merged, as the encoding has it.
func (r *Request) parse(message string) bool {
	return each(message, func(field int, attributes string) bool {
		return field != checkAttributes || each(attributes, func(field int, v string) bool {
			switch field {
			case attributesRequest:
				return each(v, func(field int, http string) bool {
					return field != requestHTTP || each(http, r.http)
				})
			case attributesExtensions:
				return r.extension(v)
			default:
				return true
			}
		})
	})
}

func (r *Request) http(field int, v string) bool {
	switch field {
	case httpMethod:
		r.Method = v
	case httpPath:
		r.Path = v
	case httpHeaders:
		return r.header(pair(v, 0))
	case httpHeaderMap:
		return each(v, func(field int, header string) bool {
			return field != headerMapHeaders || r.header(pair(header, headerRaw))
		})
	}
	return true
}

// header takes one header. Names are in lower case, as Envoy has them.
func (r *Request) header(name, value string, ok bool) bool {
	switch name {
	case envoy.HeaderAuthorization:
		r.Authorization.add(value)
	case envoy.HeaderAPIKey:
		r.APIKey.add(value)
	case envoy.HeaderClientAddress:
		r.ClientAddress.add(value)
	case envoy.HeaderReferer:
		r.Referer.add(value)
	case envoy.HeaderWebSocketProtocol:
		if r.Subprotocols != "" {
			value = r.Subprotocols + "," + value
		}
		r.Subprotocols = value
	case envoy.HeaderRequestID:
		r.RequestID = value
	case envoy.HeaderAccept:
		r.Accept = value
	case envoy.HeaderContentType:
		r.ContentType = value
	}
	return ok
}

func (h *Header) add(value string) { h.Value, h.Count = value, h.Count+1 }

func (r *Request) extension(encoded string) bool {
	name, value, ok := pair(encoded, 0)
	switch name {
	case envoy.ContextAPI:
		r.API = keymanager.APIID(value)
	case envoy.ContextRev:
		r.Rev, r.badRev = decimal(value)
	case envoy.ContextGateway:
		r.Gateway = value
	}
	return ok
}

func decimal(s string) (n uint64, bad bool) {
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 || i > 18 {
			return 0, true
		}
		n = n*10 + uint64(d)
	}
	return n, s == ""
}

// grpc reports whether the caller speaks gRPC; gRPC-web arrives so too.
func (r *Request) grpc() bool { return strings.HasPrefix(r.ContentType, "application/grpc") }

// pair reads a map entry or a HeaderValue, whose value may be in another field;
// 0 is none.
func pair(encoded string, rawField int) (key, value string, ok bool) {
	raw := ""
	for encoded != "" {
		field, v, rest, ok := next(encoded)
		if !ok {
			return "", "", false
		}
		switch field {
		case pairKey:
			key = v
		case pairValue:
			value = v
		case rawField:
			raw = v
		}
		encoded = rest
	}
	if raw != "" { // Envoy sets one of the two
		value = raw
	}
	return key, value, true
}
