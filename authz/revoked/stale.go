package revoked

import (
	"hash/maphash"
	"sync/atomic"

	"tollgate/keymanager"
)

// staleTable keeps for each subject the number of the last event that made
// verdicts about it stale. Subjects that share a place share the number.
type staleTable struct {
	seed   maphash.Seed
	last   atomic.Uint64 // the highest number in the table
	places [1 << 16]atomic.Uint64
}

// The kinds of subject, so that an application and a user of one name do not
// share a place by design.
const (
	ofApplication byte = iota + 1
	ofSubscription
	ofToken
	ofUser
	ofAPI
)

func (t *staleTable) place(kind byte, id string) *atomic.Uint64 {
	return t.at(maphash.String(t.seed, id), kind)
}

func (t *staleTable) tokenPlace(id keymanager.TokenID) *atomic.Uint64 {
	return t.at(maphash.Bytes(t.seed, id[:]), ofToken)
}

func (t *staleTable) at(hash uint64, kind byte) *atomic.Uint64 {
	return &t.places[(hash^uint64(kind)*0x9e3779b97f4a7c15)%uint64(len(t.places))]
}

func (t *staleTable) add(s keymanager.Stale, seq uint64) {
	switch {
	case s.Application != "":
		t.place(ofApplication, string(s.Application)).Store(seq)
	case s.Subscription != "":
		t.place(ofSubscription, string(s.Subscription)).Store(seq)
	case s.TokenID != keymanager.TokenID{}:
		t.tokenPlace(s.TokenID).Store(seq)
	case s.User != "":
		t.place(ofUser, string(s.User)).Store(seq)
	case s.API != "":
		t.place(ofAPI, string(s.API)).Store(seq)
	default:
		return
	}
	t.last.Store(seq) // after its place: who sees the number sees the entry
}

// after reports whether something that v, a verdict about api, is about became
// stale after v was read.
func (t *staleTable) after(v *keymanager.Verdict, api keymanager.APIID) bool {
	head := v.Head.Seq
	if head >= t.last.Load() {
		return false
	}
	if v.TokenID != (keymanager.TokenID{}) && t.tokenPlace(v.TokenID).Load() > head {
		return true
	}
	if t.place(ofAPI, string(api)).Load() > head {
		return true
	}
	g := v.Grant
	if g == nil {
		return false
	}
	return t.place(ofApplication, string(g.Application.ID)).Load() > head ||
		t.place(ofUser, string(g.UserID)).Load() > head ||
		g.Subscription != nil && t.place(ofSubscription, string(g.Subscription.ID)).Load() > head
}
