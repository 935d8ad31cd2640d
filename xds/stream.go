package xds

import (
	"slices"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
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
	// maxNames bounds the secrets that one Envoy may ask for.
	maxNames = 10000
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
	apart *response // a large one, until it goes out
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
	names      map[string]bool // of secrets: those it asks for
	again      [][]item        // refused together with others: each part by itself
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
	content  *content
	reason   string
	since    time.Time
	last     time.Time // when it was refused for the last time
	tries    int       // before that
	underway bool      // it is being sent again
}

// stream is one connected Envoy. Its fields belong to its log's lock.
type stream struct {
	id      int64
	log     *changeLog
	node    string
	version string
	opened  time.Time
	feeds   [kinds]feed
	timers  []*time.Timer
	paced   *paced // sends large responses; nil = as all others
	// The grace of the clusters that it brought and that are no more.
	graceBegun, graceOver bool
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
	if k == secrets {
		f.names, f.answered = map[string]bool{}, true // no answer is due before there is one
		return
	}
	left := len(has) // of those that are not here any more
	for e := t.ring.next; e != &t.ring; e = e.next {
		if e.now.value == nil {
			continue
		}
		version, ok := has[e.name]
		if ok {
			left--
		}
		if ok && isVersion(version, e.now.version) {
			l.accept(k, item{entry: e, sent: e.now})
			continue
		}
		f.first = append(f.first, item{entry: e, sent: e.now})
	}
	for name := range has {
		if left == 0 {
			break
		}
		if e := t.entries[name]; e == nil || e.now.value == nil {
			gone := &content{seq: l.seq}
			f.removals = append(f.removals, item{entry: &entry{name: name, now: gone}, sent: gone})
			left--
		}
	}
	if k != clusters {
		f.first, f.removals = append(f.first, f.removals...), nil
	}
	if k == scopes && st.returning && len(f.first) > 0 {
		f.held = true
		l.after(st, l.hold, func() {
			f.held = false
			l.flush(st, scopes)
		})
	}
}

// name notes which secrets the Envoy asks for, and sends it those that are there:
// each by itself, so that one that it refuses holds up no other. What is not
// there is not answered for: the listener that needs it waits.
func (l *changeLog) name(st *stream, req *discoveryv3.DeltaDiscoveryRequest) {
	t, f := &l.tables[secrets], &st.feeds[secrets]
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(f.names, name)
		delete(f.refused, name)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if len(f.names) >= maxNames {
			break
		}
		f.names[name] = true
		e := t.entries[name]
		if e == nil || e.now.value == nil {
			continue
		}
		it := item{entry: e, sent: e.now}
		if req.GetInitialResourceVersions()[name] == versionString(e.now.version) {
			l.accept(secrets, it)
			continue
		}
		f.again = append(f.again, []item{it})
	}
}

// after calls fn with the lock held, unless the stream ends before.
func (l *changeLog) after(st *stream, wait time.Duration, fn func()) {
	st.timers = append(st.timers, time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		fn()
	}))
}

// hadGrace reports whether the requests are through that an Envoy which has come
// back had routed to clusters that are no more.
func (l *changeLog) hadGrace(st *stream) bool {
	if l.grace <= 0 {
		return true
	}
	if !st.graceBegun {
		st.graceBegun = true
		l.after(st, l.grace, func() {
			st.graceOver = true
			l.flush(st, clusters)
		})
	}
	return st.graceOver
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
	if len(f.removals) > 0 && l.usesTables(st) && l.hadGrace(st) {
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
	for pending := f.wanted(t.since(f.sent)); len(pending) > 0; {
		part := cut(pending, maxResponse)
		if k == secrets {
			part = pending[:1]
		}
		if !l.send(st, k, part) {
			return
		}
		f.sent = part[len(part)-1].sent.seq
		pending = pending[len(part):]
	}
	f.sent = max(f.sent, t.head)
}

// wanted keeps what the Envoy has asked for. It takes no removal of a secret.
func (f *feed) wanted(items []item) []item {
	if f.names == nil {
		return items
	}
	return slices.DeleteFunc(items, func(it item) bool { return it.sent.value == nil || !f.names[it.entry.name] })
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
	r := &response{kind: k, request: f.request, items: items, version: l.seq, mark: mark}
	if st.paced != nil && len(items) >= largeResponse {
		r.apart, b.apart = true, r
	}
	select {
	case f.ch <- r:
		f.inFlight = append(f.inFlight, b)
		return true
	default:
		return false
	}
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

// isVersion compares without writing the version out: an Envoy that comes back
// names everything.
func isVersion(s string, v uint64) bool {
	n, err := strconv.ParseUint(s, 16, 64)
	return err == nil && n == v
}

func versionString(v uint64) string { return strconv.FormatUint(v, 16) }
