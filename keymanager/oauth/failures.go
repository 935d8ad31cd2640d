package oauth

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// failures counts failed authentications for each pair of client and address,
// so that guessing is slow (RFC 6749 section 2.3.1) and the client itself, at
// another address, is not locked out. It remembers a bounded number of pairs:
// the oldest of its bucket makes room for a new one. Pairs are told apart by a
// keyed hash that cannot be predicted.
type failures struct {
	limit   int
	window  time.Duration
	address func(*http.Request) netip.Addr
	seed    maphash.Seed
	until   atomic.Int64 // Unix nanoseconds: no failure counts from then on
	buckets [failureBuckets]bucket
}

const (
	failureBuckets = 1024
	bucketSize     = 8
)

type bucket struct {
	mu    sync.Mutex
	pairs [bucketSize]pair
}

// pair is the failures of one pair in the window that began at since.
type pair struct {
	hash  uint64
	since int64 // Unix nanoseconds
	count int
}

func newFailures(limit int, window time.Duration, address func(*http.Request) netip.Addr) *failures {
	return &failures{limit: limit, window: window, address: address, seed: maphash.MakeSeed()}
}

// wait returns how long the pair has to wait until it is heard again; 0 if it
// need not. The address is asked for only while there are failures to count.
func (f *failures) wait(client string, r *http.Request, now time.Time) time.Duration {
	if now.UnixNano() >= f.until.Load() {
		return 0
	}
	b, hash := f.find(client, f.address(r))
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pair(hash)
	if p == nil || p.count < f.limit {
		return 0
	}
	return max(0, f.left(p, now))
}

// left is how much of the pair's window is left. One that begins later than now
// began before the clock was set back, and begins now instead.
func (f *failures) left(p *pair, now time.Time) time.Duration {
	p.since = min(p.since, now.UnixNano())
	return time.Duration(p.since-now.UnixNano()) + f.window
}

// add counts a failure.
func (f *failures) add(client string, r *http.Request, now time.Time) {
	b, hash := f.find(client, f.address(r))
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pair(hash)
	if p == nil {
		p = b.oldest()
		*p = pair{}
	}
	if p.count == 0 || f.left(p, now) <= 0 {
		*p = pair{hash: hash, since: now.UnixNano()}
	}
	p.count++
	f.until.Store(now.Add(f.window).UnixNano())
}

// forgive forgets the failures of a pair that has authenticated.
func (f *failures) forgive(client string, r *http.Request, now time.Time) {
	if now.UnixNano() >= f.until.Load() {
		return
	}
	b, hash := f.find(client, f.address(r))
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pair(hash); p != nil {
		*p = pair{}
	}
}

// find returns the bucket and the hash of a pair. An IPv6 address counts as
// its /64, which one customer has to itself.
func (f *failures) find(client string, address netip.Addr) (*bucket, uint64) {
	if address = address.Unmap(); address.Is6() {
		if p, err := address.WithZone("").Prefix(64); err == nil {
			address = p.Addr()
		}
	}
	var h maphash.Hash
	h.SetSeed(f.seed)
	bytes := address.As16()
	_, _ = h.Write(bytes[:])
	_, _ = h.WriteString(client)
	hash := h.Sum64()
	return &f.buckets[hash%failureBuckets], hash
}

func (b *bucket) pair(hash uint64) *pair {
	for i := range b.pairs {
		if b.pairs[i].count > 0 && b.pairs[i].hash == hash {
			return &b.pairs[i]
		}
	}
	return nil
}

// oldest returns an empty pair, or else the one whose window began first.
func (b *bucket) oldest() *pair {
	oldest := &b.pairs[0]
	for i := range b.pairs {
		p := &b.pairs[i]
		if p.count == 0 {
			return p
		}
		if p.since < oldest.since {
			oldest = p
		}
	}
	return oldest
}

// peerAddress is the TCP peer.
func peerAddress(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr()
}
