package cache

import (
	"hash/maphash"
	"reflect"
	"runtime"
	"sync"
	"time"
	"weak"

	"tollgate/keymanager"
)

// entry is a remembered verdict. It is immutable: Get hands out a pointer into
// it, so that a hit allocates nothing.
type entry struct {
	verdict keymanager.Verdict
	// until is when it is forgotten: a time since the start of the cache, which a
	// step of the system's clock does not move.
	until time.Duration
}

// grants makes verdicts share equal Grants: all tokens of one application, API
// and scope set have the same one. It keeps none: a grant that no verdict has any
// more goes.
type grants struct {
	seed   maphash.Seed
	mu     sync.Mutex
	byHash map[uint64]weak.Pointer[keymanager.Grant]
}

func newGrants() *grants {
	return &grants{seed: maphash.MakeSeed(), byHash: map[uint64]weak.Pointer[keymanager.Grant]{}}
}

// share returns an equal grant that others have, or g. The hash only finds a
// candidate; every field is compared, also one that a later version adds.
func (s *grants) share(g *keymanager.Grant) *keymanager.Grant {
	if g == nil {
		return nil
	}
	h := s.hash(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.byHash[h].Value(); have != nil && (have == g || reflect.DeepEqual(have, g)) {
		return have
	}
	s.byHash[h] = weak.Make(g)
	runtime.AddCleanup(g, s.forget, h)
	return g
}

// forget drops what stands under a hash, if it is gone: another grant may have
// taken its place.
func (s *grants) forget(h uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byHash[h].Value() == nil {
		delete(s.byHash, h)
	}
}

func (s *grants) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byHash)
}

func (s *grants) hash(g *keymanager.Grant) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	write := func(text string) {
		_, _ = h.WriteString(text) // never fails
		_ = h.WriteByte(0)
	}
	write(string(g.Application.ID))
	write(string(g.ConsumerKey))
	write(string(g.KeyType))
	write(string(g.UserID))
	if g.Subscription != nil {
		write(string(g.Subscription.ID))
		write(string(g.Subscription.State))
	}
	for _, scope := range g.Scopes {
		write(string(scope))
	}
	return h.Sum64()
}

// lifetime returns how long a verdict is remembered: ttl, give or take a tenth
// so that what came together does not go together, and not beyond the expiry of
// the credential.
func lifetime(now time.Time, ttl time.Duration, key *Key, expires time.Time) time.Duration {
	life := ttl + time.Duration(key.spread()*float64(ttl)/10)
	if left := expires.Sub(now); !expires.IsZero() && left < life {
		life = left
	}
	return life
}
