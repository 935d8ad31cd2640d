package apis

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"tollgate/keymanager"
)

// Table is every published API. Apply and Start are for the one goroutine that
// follows the Catalog; everything else is safe for concurrent use and takes no
// lock.
type Table struct {
	log      *slog.Logger
	cursor   keymanager.Cursor
	building *set // between the begin and the end of a snapshot
	current  atomic.Pointer[set]
	position atomic.Pointer[keymanager.Position]

	mu    sync.Mutex
	moved chan struct{} // closed at the next move; nil while nobody waits
}

// set is the APIs by id.
type set struct {
	apis   sync.Map // keymanager.APIID → *API
	size   atomic.Int64
	broken atomic.Int64
}

// New returns an empty table, which has not loaded anything yet.
func New(log *slog.Logger) *Table {
	t := &Table{log: log}
	t.position.Store(&keymanager.Position{})
	return t
}

// Find returns the API with an id, nil if it is not known.
func (t *Table) Find(id keymanager.APIID) *API {
	s := t.current.Load()
	if s == nil {
		return nil
	}
	if a, ok := s.apis.Load(id); ok {
		return a.(*API)
	}
	return nil
}

// All calls f with every API until it returns false.
func (t *Table) All(f func(*API) bool) {
	if s := t.current.Load(); s != nil {
		s.apis.Range(func(_, a any) bool { return f(a.(*API)) })
	}
}

// Len returns the number of APIs, and how many of them are broken.
func (t *Table) Len() (all, broken int) {
	if s := t.current.Load(); s != nil {
		return int(s.size.Load()), int(s.broken.Load())
	}
	return 0, 0
}

// Loaded reports whether a first snapshot is complete.
func (t *Table) Loaded() bool { return t.current.Load() != nil }

// Position returns the place in the log up to which every change is in use. An
// API found afterwards is at least that new.
func (t *Table) Position() keymanager.Position { return *t.position.Load() }

// Await waits until the table has reached event number seq, and reports
// whether it has: false when ctx ends first.
func (t *Table) Await(ctx context.Context, seq uint64) bool {
	for {
		moved := t.nextMove()
		if t.Position().Seq >= seq {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

func (t *Table) nextMove() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved == nil {
		t.moved = make(chan struct{})
	}
	return t.moved
}

// Start returns the position to watch the Catalog from, for a new stream.
func (t *Table) Start() keymanager.Position {
	t.building = nil
	return t.cursor.Start()
}

// Apply takes the next message of the stream. An error means that messages are
// missing: the stream must be started again.
func (t *Table) Apply(c keymanager.Change) error {
	if err := t.cursor.Accept(c.Mark); err != nil {
		t.building = nil
		return err
	}
	switch c.Type {
	case keymanager.SnapshotBegin:
		t.building = new(set)
	case keymanager.SnapshotEnd:
		t.current.Store(t.building)
		t.building = nil
	case keymanager.Item:
		into := t.building
		if into == nil {
			into = t.current.Load()
		}
		t.change(into, c)
	}
	if !t.cursor.InSnapshot() {
		at := t.cursor.Position()
		t.position.Store(&at)
		t.wake()
	}
	return nil
}

// change puts one API in its place. Items of other kinds are not for us.
func (t *Table) change(s *set, c keymanager.Change) {
	switch {
	case c.API != nil && c.API.Routed():
		a := compile(c.API)
		if a.Broken != nil {
			t.log.Error("API cannot be used; calls to it are answered with 503",
				"api", a.ID, "name", a.Name, "version", a.Version, "error", a.Broken)
		}
		s.put(a)
	case c.API != nil:
		s.remove(c.API.ID)
	case c.RemovedAPI != "":
		s.remove(c.RemovedAPI)
	}
}

func (s *set) put(a *API) {
	old, replaced := s.apis.Swap(a.ID, a)
	if !replaced {
		s.size.Add(1)
	} else if old.(*API).Broken != nil {
		s.broken.Add(-1)
	}
	if a.Broken != nil {
		s.broken.Add(1)
	}
}

func (s *set) remove(id keymanager.APIID) {
	if old, found := s.apis.LoadAndDelete(id); found {
		s.size.Add(-1)
		if old.(*API).Broken != nil {
			s.broken.Add(-1)
		}
	}
}

func (t *Table) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}
