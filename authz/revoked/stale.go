package revoked

import (
	"hash/maphash"
	"sync/atomic"

	"tollgate/keymanager"
)

// staleTable keeps for each subject the number of the last event that made
// verdicts about it stale. Subjects that share a place share the number.
type staleTable struct {
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

// seed is the same for the life of the process, as the positions of subjects
// in a table must be.
var seed = maphash.MakeSeed()

func place(kind byte, id string) uint64 { return mix(maphash.String(seed, id), kind) }

func tokenPlace(id keymanager.TokenID) uint64 { return mix(maphash.Bytes(seed, id[:]), ofToken) }

func mix(hash uint64, kind byte) uint64 {
	return (hash ^ uint64(kind)*0x9e3779b97f4a7c15) % uint64(len(staleTable{}.places))
}

func (t *staleTable) add(s keymanager.Stale, seq uint64) {
	switch {
	case s.Application != "":
		t.places[place(ofApplication, string(s.Application))].Store(seq)
	case s.Subscription != "":
		t.places[place(ofSubscription, string(s.Subscription))].Store(seq)
	case s.TokenID != keymanager.TokenID{}:
		t.places[tokenPlace(s.TokenID)].Store(seq)
	case s.User != "":
		t.places[place(ofUser, string(s.User))].Store(seq)
	case s.API != "":
		t.places[place(ofAPI, string(s.API))].Store(seq)
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
	if v.TokenID != (keymanager.TokenID{}) && t.places[tokenPlace(v.TokenID)].Load() > head {
		return true
	}
	if t.places[place(ofAPI, string(api))].Load() > head {
		return true
	}
	g := v.Grant
	if g == nil {
		return false
	}
	return t.places[place(ofApplication, string(g.Application.ID))].Load() > head ||
		t.places[place(ofUser, string(g.UserID))].Load() > head ||
		g.Subscription != nil && t.places[place(ofSubscription, string(g.Subscription.ID))].Load() > head
}
