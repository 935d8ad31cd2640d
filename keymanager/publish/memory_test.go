package publish_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store whose log can be made to misbehave.
type memory struct {
	mu     sync.Mutex
	head   keymanager.Position
	pruned uint64
	events []store.LogEvent // also pruned ones
	apis   map[keymanager.APIID]*keymanager.API
	dead   []keymanager.Dead

	wake     chan struct{} // nil: Wake fails
	fail     error         // of every read
	failAPI  error         // of API
	hole     uint64        // an event that Events leaves out
	hide     uint64        // events from here on are not seen yet by Events and Head
	calls    map[string]int
	pruneArg uint64
}

func (m *memory) DatabaseTime(context.Context) (time.Time, error) { return time.Now(), nil }

func newMemory() *memory {
	return &memory{head: keymanager.Position{Epoch: keymanager.Epoch{1}}, apis: map[keymanager.APIID]*keymanager.API{},
		wake: make(chan struct{}, 1), calls: map[string]int{}}
}

// do changes the store without a wake.
func (m *memory) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) append(e ...store.LogEvent) keymanager.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range e {
		m.head.Seq++
		e.Seq = m.head.Seq
		m.events = append(m.events, e)
		if e.Dead != nil {
			m.dead = append(m.dead, *e.Dead)
		}
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return m.head
}

// put publishes an API.
func (m *memory) put(id keymanager.APIID) keymanager.Position {
	m.do(func() { m.apis[id] = &keymanager.API{ID: id, Position: m.head.Seq + 1} })
	return m.append(store.LogEvent{API: id})
}

func (m *memory) stale() keymanager.Position {
	return m.append(store.LogEvent{Stale: &keymanager.Stale{Application: "x"}})
}

func (m *memory) count(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[name]
}

func (m *memory) read(name string) error {
	m.calls[name]++
	return m.fail
}

func (m *memory) seen() uint64 {
	if m.hide > 0 {
		return min(m.head.Seq, m.hide-1)
	}
	return m.head.Seq
}

func (m *memory) Append(context.Context, ...store.LogEvent) error { return errors.New("not used") }

func (m *memory) Head(context.Context) (keymanager.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return keymanager.Position{Epoch: m.head.Epoch, Seq: m.seen()}, m.read("Head")
}

func (m *memory) Oldest(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pruned + 1, m.read("Oldest")
}

func (m *memory) Events(_ context.Context, after uint64, limit int) ([]store.LogEvent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read("Events"); err != nil {
		return nil, err
	}
	if m.pruned > after {
		return nil, keymanager.Errorf(keymanager.KindPrecondition, "pruned")
	}
	var out []store.LogEvent
	for _, e := range m.events {
		if e.Seq > after && e.Seq > m.pruned && e.Seq <= m.seen() && e.Seq != m.hole && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (m *memory) LiveDead(_ context.Context, now time.Time) ([]keymanager.Dead, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.dead), m.read("LiveDead")
}

func (m *memory) Prune(_ context.Context, seq uint64, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pruneArg, m.pruned = seq, max(m.pruned, seq)
	return m.read("Prune")
}

func (m *memory) Wake(ctx context.Context) (<-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls["Wake"]++
	if m.wake == nil {
		return nil, errors.New("no wakes today")
	}
	return m.wake, nil
}

func (m *memory) API(_ context.Context, id keymanager.APIID) (*keymanager.API, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read("API"); err != nil {
		return nil, err
	}
	if m.failAPI != nil && id == "bad" {
		return nil, m.failAPI
	}
	if a := m.apis[id]; a != nil {
		return a, nil
	}
	return nil, keymanager.Errorf(keymanager.KindNotFound, "no API")
}

func (m *memory) AllAPIs(_ context.Context, fn func(*keymanager.API) error) error {
	m.mu.Lock()
	err := m.read("AllAPIs")
	all := slices.Collect(maps.Values(m.apis))
	m.mu.Unlock()
	for _, a := range all {
		if err == nil {
			err = fn(a)
		}
	}
	return err
}

func (m *memory) Tier(context.Context, keymanager.OrganizationID, keymanager.TierName) (*keymanager.Tier, error) {
	return nil, keymanager.Errorf(keymanager.KindNotFound, "no tier")
}

func (m *memory) AllTiers(context.Context, func(*keymanager.Tier) error) error { return nil }
