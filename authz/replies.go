package authz

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"tollgate/authz/apis"
	"tollgate/keymanager"
)

// replies remembers how callers were let through. The answer depends on the
// grant, which many tokens share, on the API and on what is stripped, so most
// requests are answered with bytes that are there already. It is a table of
// fixed size: what has the same place takes it over, and who no longer calls
// goes.
type replies struct {
	seed   maphash.Seed
	places [4096]atomic.Pointer[allowedReply]
}

// repliesTidied is how often answers go that were not given since the last time:
// every change of an API or a subscription makes other ones.
const repliesTidied = 10 * time.Second

// allowedReply holds on to the grant and the API, so that their addresses mean
// nothing else.
type allowedReply struct {
	to    recipient
	reply *reply
	given atomic.Bool // since the table was last tidied
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
		if !have.given.Load() { // every core reads it, so that it is written once
			have.given.Store(true)
		}
		return have.reply
	}
	made := &allowedReply{to: to, reply: newReply(bytes.Clone(d.ok()))} // without the room it was written in
	made.given.Store(true)
	place.Store(made)
	return made.reply
}

// run tidies up until ctx ends.
func (c *replies) run(ctx context.Context) {
	tick := time.NewTicker(repliesTidied)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.tidy()
		}
	}
}

// tidy lets go of what was not given since it was last called.
func (c *replies) tidy() {
	for i := range c.places {
		if have := c.places[i].Load(); have != nil && !have.given.Swap(false) {
			c.places[i].CompareAndSwap(have, nil)
		}
	}
}
