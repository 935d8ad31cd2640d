package xds

import (
	"cmp"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// sending notes the nonce of a response that goes out, and returns it if it is
// encoded apart. Responses of one kind go out in the order in which they were
// handed over.
func (l *changeLog) sending(st *stream, k kind, nonce string, bytes int) (apart *response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range st.feeds[k].inFlight {
		if b.nonce == "" {
			b.nonce = nonce
			apart, b.apart = b.apart, nil
			break
		}
	}
	if apart != nil {
		for _, it := range apart.items {
			bytes += len(it.entry.name) + len(it.sent.value)
		}
	}
	l.metrics.sent(l.group, k, bytes)
	return apart
}

// answered takes an acknowledgement or a refusal of one response.
func (l *changeLog) answered(st *stream, k kind, req *discoveryv3.DeltaDiscoveryRequest) {
	f := &st.feeds[k]
	for i, b := range f.inFlight {
		if b.nonce != req.GetResponseNonce() {
			continue
		}
		f.inFlight = append(f.inFlight[:i:i], f.inFlight[i+1:]...)
		if req.GetErrorDetail() == nil {
			for _, it := range b.items {
				delete(f.refused, it.entry.name)
				delete(f.tainted, it.entry.name)
				l.accept(k, it)
			}
			return
		}
		l.metrics.refused(l.group, k)
		if k == scopes && len(b.items) > 1 {
			for _, it := range b.items {
				f.tainted[it.entry.name] = true
			}
		}
		t := &l.tables[k]
		if len(b.items) == 1 {
			reason := req.GetErrorDetail().GetMessage()
			if k == secrets {
				reason = secretRefused // Envoy's words may show the private key
			}
			l.refuse(st, k, t.only(b.items), reason)
			return
		}
		// What Envoy says is not read: it does not always name the resource.
		rest := t.toSendAgain(b.items, f.sent)
		half := (len(rest) + 1) / 2
		for _, part := range [][]item{rest[:half:half], rest[half:]} {
			if len(part) > 0 {
				f.again = append(f.again, part)
			}
		}
		return
	}
}

// secretRefused stands for what Envoy says of a secret.
const secretRefused = "Envoy does not take the certificate; what it says is not shown, since it may show the key"

// refuse notes a resource that was refused when it stood alone: it stays at its
// last acknowledged content on this stream, and the group is told. One that has
// changed meanwhile says nothing.
func (l *changeLog) refuse(st *stream, k kind, items []item, reason string) {
	for _, it := range items {
		reason = shorten(reason)
		now := l.now()
		note := refused{content: it.sent, reason: reason, since: now, last: now}
		if before, ok := st.feeds[k].refused[it.entry.name]; ok && before.content == it.sent {
			note.since, note.tries = before.since, before.tries+1
		}
		st.feeds[k].refused[it.entry.name] = note
		r := refusal{kind: k, name: it.entry.name, now: it.sent, node: st.node, only: it.entry.accepted, reason: reason}
		l.refusals = append(l.refusals, r)
		if !r.only {
			it.entry.refusal = &r
		}
	}
}

// accept notes that an Envoy uses a content.
func (l *changeLog) accept(k kind, it item) {
	if it.entry.accepted || !l.tables[k].current(it) {
		return
	}
	it.entry.accepted, it.entry.refusal = true, nil
	l.accepted = append(l.accepted, acceptance{k, it.entry.name, it.sent.seq})
}

// acknowledgedBy returns the position up to which the Envoy has answered for
// kind k, also by a refusal of a resource that stood alone. The first of what
// stands together is the oldest.
func (l *changeLog) acknowledgedBy(st *stream, k kind) uint64 {
	f := &st.feeds[k]
	if k == secrets && !f.subscribed {
		return l.seq // it needs none
	}
	if !f.subscribed || !f.answered || len(f.first) > 0 {
		return 0
	}
	low := l.seq
	if f.sent < l.tables[k].head {
		low = f.sent
	}
	lowest := func(items []item) {
		for _, it := range items {
			low = min(low, it.sent.seq-1)
		}
	}
	for _, b := range f.inFlight {
		if len(b.items) == 0 {
			return 0 // the empty first response
		}
		lowest(b.items[:1])
	}
	for _, part := range f.again {
		lowest(part[:1])
	}
	return low
}

// only keeps the items that are current.
func (t *table) only(items []item) []item {
	out := make([]item, 0, len(items))
	for _, it := range items {
		if t.current(it) {
			out = append(out, it)
		}
	}
	return out
}

// toSendAgain returns what of a refused response is still to be brought. A
// content that has gone out since then is, too: if its bytes are those that were
// refused with others, Envoy has not used it.
func (t *table) toSendAgain(items []item, sent uint64) []item {
	out := make([]item, 0, len(items))
	for _, it := range items {
		if e := t.entries[it.entry.name]; e != nil && e.now.value != nil && e.now.seq <= sent {
			out = append(out, item{entry: e, sent: e.now})
		} else if t.current(it) {
			out = append(out, it)
		}
	}
	// Oldest first, as in any response: see acknowledgedBy.
	slices.SortStableFunc(out, func(a, b item) int { return cmp.Compare(a.sent.seq, b.sent.seq) })
	return out
}

// shorten keeps a reason readable: a violation of a proto rule comes as a dump
// of the whole resource.
func shorten(s string) string {
	const limit = 500
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
