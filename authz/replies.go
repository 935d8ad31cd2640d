package authz

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"

	"tollgate/authz/apis"
	"tollgate/keymanager"
)

// replies remembers how callers were let through. The answer depends on the
// grant, which many tokens share, on the API and on what is stripped, so most
// requests are answered with bytes that are there already. It is a table of
// fixed size: what has the same place takes it over.
type replies struct {
	seed   maphash.Seed
	places [4096]atomic.Pointer[allowedReply]
}

// allowedReply is immutable. It holds on to the grant and the API, so that
// their addresses mean nothing else.
type allowedReply struct {
	to    recipient
	reply *reply
}

// recipient is everything that an answer to an allowed request depends on.
type recipient struct {
	grant *keymanager.Grant // nil = anonymous
	api   *apis.API
	strip toStrip
}

// of returns the answer for an allowed request.
func (c *replies) of(d *Decision) *reply {
	if d.strip.protocols.replace { // once for a connection, and the client chose the words
		return newReply(d.ok())
	}
	to := recipient{api: d.API, strip: d.strip}
	if d.Reason != allowedAnonymous {
		to.grant = d.Verdict.Grant
	}
	place := &c.places[maphash.Comparable(c.seed, to)%uint64(len(c.places))]
	if have := place.Load(); have != nil && have.to == to {
		return have.reply
	}
	made := &allowedReply{to, newReply(bytes.Clone(d.ok()))} // without the room it was written in
	place.Store(made)
	return made.reply
}
