package xds

import (
	"context"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// maxInFlight is how many responses of one kind may be unanswered. Envoy
	// withholds every answer about clusters while one of them resolves its name,
	// so it must not be small; without a limit a silent Envoy would cost memory.
	maxInFlight = 512
	// maxResponse is the size of a response, in bytes. The first one of a kind
	// is not cut below what Envoy takes (256 MiB): it would be ready after a part.
	maxResponse      = 32 << 20
	maxFirstResponse = 240 << 20
)

// item is a resource as it was put into a response.
type item struct {
	entry *entry
	sent  *content
	// marked: sent in other bytes than before, of the same meaning; see tainted.
	marked bool
}

// current reports whether the item is still what the table holds. If not, a
// later content is on its way, and nothing that is said of this one matters.
func (t *table) current(i item) bool {
	e := t.entries[i.entry.name]
	if e == nil || e.now.value == nil {
		return i.sent.value == nil
	}
	return e.now == i.sent
}

// batch is one response.
type batch struct {
	nonce string // "" until it goes out
	items []item
}

// feed is one kind of resource on one stream. What the Envoy has acknowledged
// is everything up to sent, except what is in flight, to be sent again, or
// refused.
type feed struct {
	subscribed bool
	answered   bool // the first response is on its way
	first      []item
	removals   []item // of the first response, held back: see subscribe
	since      time.Time
	start      uint64 // the log when it subscribed
	held       bool   // the first response waits for the clusters
	sent       uint64
	again      [][]item // refused together with others: each part by itself
	// tainted tables were in a response that was refused. Envoy (1.40.0) notes
	// the content of each table as it goes through a response, and puts them into
	// use at the end: a table before the bad one is noted and not in use, and the
	// same bytes would later be acknowledged without effect. So these are sent
	// marked, and all that an Envoy is sent that comes back: what it refused
	// before is not known.
	tainted  map[string]bool
	inFlight []*batch
	refused  map[string]refused
	ch       chan cache.DeltaResponse // nil = no open watch
	request  *discoveryv3.DeltaDiscoveryRequest
}

// refused is a content that the Envoy did not take, when it came alone.
type refused struct {
	content *content
	reason  string
	since   time.Time
}

// stream is one connected Envoy. Its fields belong to its log's lock.
type stream struct {
	id      int64
	log     *changeLog
	node    string
	version string
	feeds   [kinds]feed
	timer   *time.Timer
	// returning: it had content when it connected.
	returning bool
}

// subscribe computes the first response of a kind: what differs from what the
// Envoy says it has (nothing, when it starts). It costs as much as there are
// resources, once per connection.
//
// An Envoy that comes back serves traffic, so the order of a change holds for
// the first responses too: removed clusters go only when the tables are
// acknowledged, and the tables wait until the clusters are.
func (l *changeLog) subscribe(st *stream, k kind, has map[string]string) {
	t, f := &l.tables[k], &st.feeds[k]
	f.subscribed, f.since, f.start, f.sent = true, l.now(), l.seq, t.head
	// It asks for tables only when it has a listener.
	st.returning = st.returning || len(has) > 0
	f.refused, f.tainted = map[string]refused{}, map[string]bool{}
	for e := t.ring.next; e != &t.ring; e = e.next {
		if e.now.value == nil {
			continue
		}
		if len(has) > 0 && has[e.name] == versionString(e.now.version) {
			l.accept(k, item{entry: e, sent: e.now})
			continue
		}
		f.first = append(f.first, item{entry: e, sent: e.now})
	}
	for name := range has {
		if e := t.entries[name]; e == nil || e.now.value == nil {
			gone := &content{seq: l.seq}
			f.removals = append(f.removals, item{entry: &entry{name: name, now: gone}, sent: gone})
		}
	}
	if k != clusters {
		f.first, f.removals = append(f.first, f.removals...), nil
	}
	if k == scopes && st.returning && len(f.first) > 0 {
		f.held = true
		st.timer = time.AfterFunc(l.hold, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			f.held = false
			l.flush(st, scopes)
		})
	}
}

// flush sends what the Envoy does not have, unless no watch is open or the
// stream's channel is full; then the next request tries again.
func (l *changeLog) flush(st *stream, k kind) {
	f := &st.feeds[k]
	if f.ch == nil {
		return
	}
	if f.held {
		if l.acknowledgedBy(st, clusters) < f.start {
			return
		}
		f.held = false
	}
	t := &l.tables[k]
	for !f.answered || len(f.first) > 0 {
		// A wildcard subscription is answered even if there is nothing to say.
		part := cut(f.first, maxFirstResponse)
		if !l.send(st, k, t.only(part)) {
			return
		}
		f.answered, f.first = true, f.first[len(part):]
	}
	if len(f.removals) > 0 && l.usesTables(st) {
		if !l.send(st, k, t.only(f.removals)) {
			return
		}
		f.removals = nil
	}
	for len(f.again) > 0 {
		part := t.only(f.again[0])
		if len(part) > 0 && !l.send(st, k, part) {
			return
		}
		f.again = f.again[1:]
	}
	for pending := t.since(f.sent); len(pending) > 0; {
		part := cut(pending, maxResponse)
		if !l.send(st, k, part) {
			return
		}
		f.sent = part[len(part)-1].sent.seq
		pending = pending[len(part):]
	}
}

// usesTables reports whether the Envoy has every table as it is: none on its
// way, none refused.
func (l *changeLog) usesTables(st *stream) bool {
	return l.acknowledgedBy(st, scopes) >= l.tables[scopes].head && st.feeds[scopes].answered && len(st.feeds[scopes].refused) == 0
}

// send hands a response to the stream's goroutine. The watch is open, so the
// channel is not closed; it is never waited for, since the lock is held.
func (l *changeLog) send(st *stream, k kind, items []item) bool {
	f := &st.feeds[k]
	if len(f.inFlight) >= maxInFlight {
		return false
	}
	var mark []byte
	for i := range items {
		items[i].marked = k == scopes && (st.returning || f.tainted[items[i].entry.name])
		if items[i].marked && mark == nil {
			l.marks++
			mark = tableMark(l.now(), l.marks)
		}
	}
	b := &batch{items: items}
	select {
	case f.ch <- &response{kind: k, request: f.request, items: items, version: l.seq, mark: mark}:
		f.inFlight = append(f.inFlight, b)
		return true
	default:
		return false
	}
}

// sending notes the nonce of a response that goes out. Responses of one kind go
// out in the order in which they were handed over.
func (l *changeLog) sending(st *stream, k kind, nonce string, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range st.feeds[k].inFlight {
		if b.nonce == "" {
			b.nonce = nonce
			break
		}
	}
	l.metrics.sent(l.group, k, bytes)
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
			l.refuse(st, k, t.only(b.items), req.GetErrorDetail().GetMessage())
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

// refuse notes a resource that was refused when it stood alone: it stays at its
// last acknowledged content on this stream, and the group is told. One that has
// changed meanwhile says nothing.
func (l *changeLog) refuse(st *stream, k kind, items []item, reason string) {
	for _, it := range items {
		reason = shorten(reason)
		st.feeds[k].refused[it.entry.name] = refused{it.sent, reason, l.now()}
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
// kind k, also by a refusal of a resource that stood alone.
func (l *changeLog) acknowledgedBy(st *stream, k kind) uint64 {
	f := &st.feeds[k]
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
	return out
}

// cut returns the beginning of items that fits into a response.
func cut(items []item, limit int) []item {
	size := 0
	for i, it := range items {
		size += len(it.sent.value) + len(it.entry.name) + 100
		if size > limit && i > 0 {
			return items[:i]
		}
	}
	return items
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

func versionString(v uint64) string { return strconv.FormatUint(v, 16) }

// response builds its message when the stream's goroutine asks for it, outside
// the lock. Contents are never changed, so it reads them without.
type response struct {
	kind    kind
	request *discoveryv3.DeltaDiscoveryRequest
	items   []item
	version uint64
	mark    []byte // what marked items end with
}

// GetDeltaDiscoveryResponse implements cache.DeltaResponse.
func (r *response) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:           r.kind.url(),
		SystemVersionInfo: strconv.FormatUint(r.version, 10),
	}
	for _, it := range r.items {
		if it.sent.value == nil {
			out.RemovedResources = append(out.RemovedResources, it.entry.name)
			continue
		}
		value := it.sent.value
		if it.marked {
			value = append(value[:len(value):len(value)], r.mark...)
		}
		out.Resources = append(out.Resources, &discoveryv3.Resource{
			Name:     it.entry.name,
			Version:  versionString(it.sent.version),
			Resource: &anypb.Any{TypeUrl: r.kind.url(), Value: value},
		})
	}
	return out, nil
}

// GetDeltaRequest implements cache.DeltaResponse.
func (r *response) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest { return r.request }

// GetSystemVersion implements cache.DeltaResponse.
func (r *response) GetSystemVersion() (string, error) { return r.GetResponseVersion(), nil }

// GetResponseVersion implements cache.DeltaResponse.
func (r *response) GetResponseVersion() string { return strconv.FormatUint(r.version, 10) }

// GetNextVersionMap implements cache.DeltaResponse.
func (r *response) GetNextVersionMap() map[string]string { return r.GetReturnedResources() }

// GetReturnedResources implements cache.DeltaResponse. The library would keep
// here what it believes delivered; the log knows better. It may write to the
// map, so each response has its own.
func (r *response) GetReturnedResources() map[string]string { return map[string]string{} }

// GetContext implements cache.DeltaResponse.
func (r *response) GetContext() context.Context { return context.Background() }
