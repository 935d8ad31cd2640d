package keymanagertest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"tollgate/keymanager"
)

// KeyManager is a key manager in memory: the four contracts over one log. It
// is safe for concurrent use. What is put in is copied.
type KeyManager struct {
	opts Options

	mu         sync.Mutex
	epoch      keymanager.Epoch
	pruned     uint64  // events up to here are forgotten
	events     []event // event i has the number pruned+i+1
	apis       map[keymanager.APIID]*keymanager.API
	tiers      map[keymanager.TierRef]*keymanager.Tier
	dead       []keymanager.Dead
	changed    chan struct{} // closed and replaced whenever something changed
	generation int           // of the streams: Break starts a new one
	beats      int
	muted      bool
	down       error
	streams    map[string]int // open, by contract
	opened     map[string]int // ever

	validator validatorState
	gateways  gatewaysState
}

// Options of New. The zero value is usable.
type Options struct {
	// Heartbeat is the interval of heartbeats. Without it they come when a
	// stream opens, when the head moved, and on Beat.
	Heartbeat time.Duration
	// Now is the key manager's clock; time.Now if nil.
	Now func() time.Time
}

// event is one entry of the log; exactly one field is set.
type event struct {
	api   keymanager.APIID
	tier  *keymanager.TierRef
	dead  *keymanager.Dead
	stale *keymanager.Stale
}

// New returns a key manager that knows apis.
func New(o Options, apis ...*keymanager.API) *KeyManager {
	if o.Now == nil {
		o.Now = time.Now
	}
	k := &KeyManager{
		opts:    o,
		epoch:   keymanager.Epoch{1},
		apis:    map[keymanager.APIID]*keymanager.API{},
		tiers:   map[keymanager.TierRef]*keymanager.Tier{},
		changed: make(chan struct{}),
		streams: map[string]int{},
		opened:  map[string]int{},
	}
	k.validator.verdicts = map[verdictKey]*keymanager.Verdict{}
	k.gateways.states = map[gatewayKey]keymanager.GatewayState{}
	k.SetAPI(apis...)
	return k
}

// Head returns the position of the last event.
func (k *KeyManager) Head() keymanager.Position {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.headLocked()
}

func (k *KeyManager) headLocked() keymanager.Position {
	return keymanager.Position{Epoch: k.epoch, Seq: k.pruned + uint64(len(k.events))}
}

// change runs f with the lock held and wakes the streams.
func (k *KeyManager) change(f func()) keymanager.Position {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
	return k.headLocked()
}

// SetAPI adds or replaces APIs, one event each, and returns the position of
// the last. It sets Position in the copies that it keeps.
func (k *KeyManager) SetAPI(apis ...*keymanager.API) keymanager.Position {
	return k.change(func() {
		for _, a := range apis {
			c := *a
			k.events = append(k.events, event{api: a.ID})
			c.Position = k.headLocked().Seq
			k.apis[a.ID] = &c
		}
	})
}

// RemoveAPI removes APIs, one event each.
func (k *KeyManager) RemoveAPI(ids ...keymanager.APIID) keymanager.Position {
	return k.change(func() {
		for _, id := range ids {
			delete(k.apis, id)
			k.events = append(k.events, event{api: id})
		}
	})
}

// SetTier adds or replaces tiers, one event each.
func (k *KeyManager) SetTier(tiers ...*keymanager.Tier) keymanager.Position {
	return k.change(func() {
		for _, t := range tiers {
			c, ref := *t, keymanager.TierRef{Organization: t.Organization, Name: t.Name}
			k.tiers[ref] = &c
			k.events = append(k.events, event{tier: &ref})
		}
	})
}

// RemoveTier removes tiers, one event each.
func (k *KeyManager) RemoveTier(refs ...keymanager.TierRef) keymanager.Position {
	return k.change(func() {
		for _, ref := range refs {
			delete(k.tiers, ref)
			k.events = append(k.events, event{tier: &ref})
		}
	})
}

// Kill publishes d: refused from now on.
func (k *KeyManager) Kill(d keymanager.Dead) keymanager.Position {
	return k.change(func() {
		k.dead = append(k.dead, d)
		k.events = append(k.events, event{dead: &d})
	})
}

// Stale publishes s: verdicts read before it are a miss.
func (k *KeyManager) Stale(s keymanager.Stale) keymanager.Position {
	return k.change(func() { k.events = append(k.events, event{stale: &s}) })
}

// Prune forgets all events so far: who resumes from before gets a snapshot.
func (k *KeyManager) Prune() {
	k.change(func() { k.pruned, k.events = k.headLocked().Seq, nil })
}

// NewEpoch starts another line of history, as a restored database does.
func (k *KeyManager) NewEpoch() keymanager.Position {
	return k.change(func() {
		k.epoch[0]++
		k.pruned, k.events = k.headLocked().Seq, nil
		for id, a := range k.apis {
			c := *a // the old one may be in a receiver's hands
			c.Position = k.pruned
			k.apis[id] = &c
		}
	})
}

// Beat sends a heartbeat on every open stream.
func (k *KeyManager) Beat() { k.change(func() { k.beats++ }) }

// Mute stops (or resumes) every message, heartbeats too, while streams stay
// open: a key manager that hangs.
func (k *KeyManager) Mute(on bool) { k.change(func() { k.muted = on }) }

// Break ends every open stream with KindUnavailable.
func (k *KeyManager) Break() { k.change(func() { k.generation++ }) }

// Down makes streams, validations and reports fail with err, until it is
// called with nil. Open streams end.
func (k *KeyManager) Down(err error) { k.change(func() { k.down = err }) }

// The contracts whose streams are counted.
const (
	CatalogStream     = "catalog"
	RevocationsStream = "revocations"
)

// Open returns how many streams of a contract are open, and Opened how many
// ever were.
func (k *KeyManager) Open(contract string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.streams[contract]
}

// Opened returns how many streams of a contract were ever opened.
func (k *KeyManager) Opened(contract string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opened[contract]
}

// Watch implements keymanager.Catalog.
func (k *KeyManager) Watch(ctx context.Context, from keymanager.Position, kinds []keymanager.CatalogKind, fn func(keymanager.Change) error) error {
	wantAPIs := slices.Contains(kinds, keymanager.CatalogAPI)
	wantTiers := slices.Contains(kinds, keymanager.CatalogTier)
	send := func(m keymanager.Change) func(keymanager.Mark) error {
		return func(mark keymanager.Mark) error { m.Mark = mark; return fn(m) }
	}
	return k.stream(ctx, CatalogStream, from, sink{
		bare: send(keymanager.Change{}),
		snapshot: func() (items []func(keymanager.Mark) error) {
			if wantTiers {
				for _, t := range k.tiers {
					items = append(items, send(keymanager.Change{Tier: t}))
				}
			}
			if wantAPIs {
				for _, id := range slices.Sorted(maps.Keys(k.apis)) {
					items = append(items, send(keymanager.Change{API: k.apis[id]}))
				}
			}
			return items
		},
		item: func(e event) func(keymanager.Mark) error {
			switch {
			case e.api != "" && wantAPIs && k.apis[e.api] != nil:
				return send(keymanager.Change{API: k.apis[e.api]})
			case e.api != "" && wantAPIs:
				return send(keymanager.Change{RemovedAPI: e.api})
			case e.tier != nil && wantTiers && k.tiers[*e.tier] != nil:
				return send(keymanager.Change{Tier: k.tiers[*e.tier]})
			case e.tier != nil && wantTiers:
				return send(keymanager.Change{RemovedTier: e.tier})
			default:
				return nil
			}
		},
	})
}

// Follow implements keymanager.Revocations.
func (k *KeyManager) Follow(ctx context.Context, from keymanager.Position, fn func(keymanager.Event) error) error {
	send := func(m keymanager.Event) func(keymanager.Mark) error {
		return func(mark keymanager.Mark) error {
			m.Mark = mark
			if mark.Type == keymanager.Heartbeat {
				m.Now = k.opts.Now()
			}
			return fn(m)
		}
	}
	return k.stream(ctx, RevocationsStream, from, sink{
		bare: send(keymanager.Event{}),
		snapshot: func() (items []func(keymanager.Mark) error) {
			now := k.opts.Now()
			for _, d := range k.dead {
				if d.ExpiresAt.IsZero() || d.ExpiresAt.After(now) {
					items = append(items, send(keymanager.Event{Dead: &d}))
				}
			}
			return items
		},
		item: func(e event) func(keymanager.Mark) error {
			if e.dead == nil && e.stale == nil {
				return nil
			}
			return send(keymanager.Event{Dead: e.dead, Stale: e.stale})
		},
	})
}
