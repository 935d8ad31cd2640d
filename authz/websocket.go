package authz

import (
	"strings"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// A browser sets no header of a WebSocket handshake but the list of
// subprotocols, so the token may come there, announced by a mark:
//
//	Sec-WebSocket-Protocol: chat.v1, tollgate.bearer, TOKEN
//
// The mark and the token are no subprotocols and never reach the back end.

// offer is the credential among the offered subprotocols.
type offer struct {
	token string
	count int    // of marks; the token is that of the last one
	rest  string // what remains for the back end
	cut   bool   // rest is not everything that was offered
}

// maxOffer is how many subprotocols are looked at. No client offers so many: a
// longer list costs more time than all the rest of a decision, and is left out
// as a whole.
const maxOffer = 32

// readOffer takes a list of subprotocols apart (RFC 6455 section 11.3.4). A
// credential of ours that is not announced is left out of the rest too.
func readOffer(list string, tags Tags) (o offer) {
	if list == "" {
		return o
	}
	if strings.Count(list, ",") >= maxOffer {
		return offer{cut: true}
	}
	var rest []string
	marked := false
	for one := range strings.SplitSeq(list, ",") {
		one = strings.Trim(one, " \t")
		switch {
		case marked:
			o.token, marked, o.cut = one, false, true
		case one == envoy.WebSocketToken:
			o.token, marked, o.cut = "", true, true
			o.count++
		case tags.Check(keymanager.AccessToken, one) || tags.Check(keymanager.APIKeyCredential, one):
			o.cut = true
		default:
			rest = append(rest, one)
		}
	}
	if o.cut {
		o.rest = strings.Join(rest, ", ")
	}
	return o
}

// protocols is what is left of the offered subprotocols.
type protocols struct {
	replace bool
	rest    string
	// answer tells the client that its offer was understood, unless the back end
	// chooses: a browser ends a connection whose server chose none.
	answer bool
}

// keep turns an offer into what the back end is to see, and the client if the
// credential was found there.
func (o *offer) keep(at place) protocols {
	return protocols{replace: o.cut, rest: o.rest, answer: at == inSubprotocol && o.rest == ""}
}

// appendProtocols writes what becomes of the offer into an OkHttpResponse.
func appendProtocols(b []byte, p protocols) []byte {
	switch {
	case !p.replace:
	case p.rest == "":
		b = appendString(b, okHeadersToRemove, envoy.HeaderWebSocketProtocol)
	default:
		b = appendHeader(b, okHeaders, envoy.HeaderWebSocketProtocol, p.rest)
	}
	if p.answer {
		b = appendHeaderAs(b, okResponseHeaders, addIfAbsent, envoy.HeaderWebSocketProtocol, envoy.WebSocketToken)
	}
	return b
}
