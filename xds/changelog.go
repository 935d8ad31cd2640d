package xds

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// kind is a type of resource that is pushed. The first three are wildcard
// subscriptions at Envoy; secrets are asked for by name.
type kind int

const (
	clusters kind = iota
	listeners
	scopes
	secrets
	kinds
)

func (k kind) url() string {
	return [kinds]string{resource.ClusterType, resource.ListenerType, resource.ScopedRouteType, resource.SecretType}[k]
}

// String is the label of metrics and logs.
func (k kind) String() string { return [kinds]string{"cds", "lds", "srds", "sds"}[k] }

func kindOf(url string) (kind, bool) {
	for k := range kinds {
		if k.url() == url {
			return k, true
		}
	}
	return 0, false
}

// content is one state of a resource; it is never changed.
type content struct {
	seq     uint64 // the change that brought it
	version uint64 // hash of value
	value   []byte // the marshalled resource; nil = removed
}

// entry is a resource by name. Entries of a kind are linked in the order of
// their last change, so that what is new since any change is found from the
// end, whatever the number of resources.
type entry struct {
	name       string
	now        *content
	accepted   bool     // some Envoy has acknowledged now
	refusal    *refusal // some Envoy has refused now, and none has accepted it
	prev, next *entry
}

// table holds the resources of one kind.
type table struct {
	entries map[string]*entry
	ring    entry  // sentinel: ring.next is the oldest change, ring.prev the newest
	head    uint64 // seq of the newest change
	removed []*entry
}

// change puts (value) or removes (nil) a resource.
type change struct {
	kind    kind
	name    string
	version uint64
	value   []byte

	// Set by update: when the content came that is there now, and what Envoys have
	// said of it if it was there before.
	seq      uint64
	accepted bool
	refusal  *refusal
}

// refusal is a resource that an Envoy refused when it came alone.
type refusal struct {
	kind kind
	name string
	now  *content
	node string
	// only: another Envoy has accepted the same content, so the fault is this
	// node's and nobody else's content changes.
	only   bool
	reason string
}

// acceptance is the first acknowledgement of a content by any Envoy.
type acceptance struct {
	kind kind
	name string
	seq  uint64
}

// changeLog is what is current in one gateway group, and what each of its
// Envoys has acknowledged. It is the cache behind go-control-plane's delta
// server, and differs from the library's in three ways: a change costs what
// changed, not what there is; delivered means acknowledged; and a refused
// response is sent again in halves until the bad resource stands alone.
type changeLog struct {
	group   string
	now     func() time.Time
	metrics *metrics
	// hold is how long a reconnected Envoy's tables wait for its clusters, and
	// grace how long its old clusters outlive their routes.
	hold, grace time.Duration

	mu       sync.Mutex
	seq      uint64
	marks    uint64 // of tables sent again
	tables   [kinds]table
	streams  map[int64]*stream
	refusals []refusal
	accepted []acceptance
	// notify wakes the group: an acknowledgement, a refusal, a stream less.
	notify chan struct{}
}

func newChangeLog(group string, now func() time.Time, m *metrics, hold time.Duration) *changeLog {
	l := &changeLog{
		group: group, now: now, metrics: m, hold: hold,
		streams: map[int64]*stream{}, notify: make(chan struct{}, 1),
	}
	for k := range l.tables {
		t := &l.tables[k]
		t.entries = map[string]*entry{}
		t.ring.prev, t.ring.next = &t.ring, &t.ring
	}
	return l
}

// update applies changes and sends them to every Envoy that listens. What is
// equal to what is there is no change. It sets the seq of each: an Envoy that
// has acknowledged it has the content.
func (l *changeLog) update(changes []change) {
	if len(changes) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var touched [kinds]bool
	for i := range changes {
		c := &changes[i]
		t := &l.tables[c.kind]
		if t.apply(c, l.seq+1) {
			l.seq++
			touched[c.kind] = true
		}
		if e := t.entries[c.name]; e != nil {
			c.seq, c.accepted, c.refusal = e.now.seq, e.accepted, e.refusal
		}
	}
	for _, st := range l.streams {
		for k := range kinds {
			if touched[k] {
				l.flush(st, k)
			}
		}
	}
	l.forgetRemoved()
}

func (t *table) apply(c *change, seq uint64) bool {
	e := t.entries[c.name]
	switch {
	case e == nil && c.value == nil:
		return false
	case e == nil:
		e = &entry{name: c.name}
		t.entries[c.name] = e
	case c.value == nil && e.now.value == nil:
		return false
	case c.value != nil && e.now.value != nil && e.now.version == c.version:
		return false
	default:
		e.prev.next, e.next.prev = e.next, e.prev
	}
	e.now, e.accepted, e.refusal = &content{seq: seq, version: c.version, value: c.value}, false, nil
	e.prev, e.next = t.ring.prev, &t.ring
	e.prev.next, t.ring.prev = e, e
	t.head = seq
	if c.value == nil {
		t.removed = append(t.removed, e)
	}
	return true
}

// since returns what changed after seq, oldest first.
func (t *table) since(seq uint64) []item {
	n := 0
	for e := t.ring.prev; e != &t.ring && e.now.seq > seq; e = e.prev {
		n++
	}
	if n == 0 {
		return nil
	}
	out := make([]item, n)
	for e := t.ring.prev; n > 0; e = e.prev {
		n--
		out[n] = item{entry: e, sent: e.now}
	}
	return out
}

// forgetRemoved drops the names of removed resources that every stream knows of.
func (l *changeLog) forgetRemoved() {
	for k := range kinds {
		t := &l.tables[k]
		if len(t.removed) == 0 {
			continue
		}
		known := l.acknowledgedLocked(k)
		for len(t.removed) > 0 {
			e := t.removed[0]
			if e.now.value == nil {
				if e.now.seq > known {
					break
				}
				if t.entries[e.name] == e {
					e.prev.next, e.next.prev = e.next, e.prev
					delete(t.entries, e.name)
				}
			}
			t.removed = t.removed[1:]
		}
	}
}

// CreateWatch refuses the state-of-the-world protocol: every Envoy that is new
// enough speaks delta.
func (s *Server) CreateWatch(*cache.Request, cache.Subscription, chan cache.Response) (func(), error) {
	return nil, fmt.Errorf("xds: only the delta protocol is served")
}

// CreateDeltaWatch is called for each request of a stream: the first of a kind,
// an acknowledgement, or a refusal. ch belongs to the stream and is closed at
// its end, after every watch was cancelled.
func (s *Server) CreateDeltaWatch(req *cache.DeltaRequest, _ cache.Subscription, ch chan cache.DeltaResponse) (func(), error) {
	id, err := strconv.ParseInt(req.GetNode().GetId(), 10, 64) // stamped by admit
	if err != nil {
		return nil, fmt.Errorf("xds: a request of no stream")
	}
	ses := s.session(id)
	if ses == nil || ses.stream == nil {
		return nil, fmt.Errorf("xds: a request of no stream")
	}
	k, ok := kindOf(req.GetTypeUrl())
	if !ok {
		return nil, nil // nothing of the kind is published, and none of them is waited for
	}
	req.InitialResourceVersions, ses.has = ses.has, nil
	cancel := ses.stream.log.watch(ses.stream, k, req, ch)
	if k == scopes && ses.paced != nil {
		ses.paced.compared() // of what an Envoy asks for, they come last
	}
	return cancel, nil
}

func (l *changeLog) watch(st *stream, k kind, req *discoveryv3.DeltaDiscoveryRequest, ch chan cache.DeltaResponse) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &st.feeds[k]
	if !f.subscribed {
		l.subscribe(st, k, req.GetInitialResourceVersions())
	}
	if k == secrets {
		l.name(st, req)
	}
	if req.GetResponseNonce() != "" {
		l.answered(st, k, req)
	}
	req.InitialResourceVersions = nil
	f.ch, f.request = ch, req
	for k := range kinds { // an answer of one kind may set another free
		l.flush(st, k)
	}
	l.forgetRemoved()
	l.wake()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if f.request == req {
			f.ch, f.request = nil, nil
		}
	}
}

func (l *changeLog) wake() {
	select {
	case l.notify <- struct{}{}:
	default:
	}
}

// events takes what Envoys have said since the last call.
func (l *changeLog) events() ([]refusal, []acceptance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, a := l.refusals, l.accepted
	l.refusals, l.accepted = nil, nil
	return r, a
}

// acknowledged returns the position up to which every connected Envoy has
// answered for resources of kind k.
func (l *changeLog) acknowledged(k kind) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledgedLocked(k)
}

func (l *changeLog) acknowledgedLocked(k kind) uint64 {
	low := l.seq
	for _, st := range l.streams {
		low = min(low, l.acknowledgedBy(st, k))
	}
	return low
}

// inUse reports whether every connected Envoy uses the named tables (all, if
// none is named) as they are: it has answered for position seq and for their present content, and has
// not refused it. (An answer to an older content says nothing: if it was a
// refusal, the Envoy still uses the one before.)
func (l *changeLog) inUse(names []string, seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(names) == 0 {
		seq = l.tables[scopes].head
	}
	for _, n := range names {
		if e := l.tables[scopes].entries[n]; e != nil {
			seq = max(seq, e.now.seq)
		}
	}
	for _, st := range l.streams {
		f := &st.feeds[scopes]
		// One that has just come back may route as it did long ago.
		if !f.answered || l.acknowledgedBy(st, scopes) < max(seq, f.start) {
			return false
		}
		for _, n := range names {
			if _, refused := f.refused[n]; refused {
				return false
			}
		}
	}
	return true
}

// taken reports whether an Envoy has accepted a cluster as it is.
func (l *changeLog) taken(cluster string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.tables[clusters].entries[cluster]
	return e != nil && e.now.value != nil && e.accepted
}

func (l *changeLog) has(k kind, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.tables[k].entries[name]
	return e != nil && e.now.value != nil
}
