package keymanager

import "fmt"

// Cursor keeps a receiver's place in a Catalog or Revocations stream and finds
// gaps. The zero Cursor has received nothing. It is not safe for concurrent
// use.
type Cursor struct {
	last     Position
	snapshot Position // of the snapshot that has begun
	inside   bool     // between SnapshotBegin and SnapshotEnd
	loaded   bool
}

// Start returns the position to ask a new stream for: that of the last message,
// or the zero Position, which brings a snapshot, before the first snapshot is
// complete and after a gap. A snapshot that broke off is forgotten.
func (c *Cursor) Start() Position {
	c.inside = false
	if !c.loaded {
		return Position{}
	}
	return c.last
}

// Accept takes the mark of the next message. It returns an error if messages
// are missing between the last one and this, or if the message makes no sense
// here: the message must not be used, the stream must end, and the next one
// starts with a snapshot. What was loaded so far stays in use until then.
func (c *Cursor) Accept(m Mark) error {
	switch {
	case m.Type == SnapshotBegin:
		c.inside, c.snapshot = true, m.At
		return nil
	case c.inside && m.At != c.snapshot:
		return c.lost(m)
	case m.Type == SnapshotEnd && c.inside:
		c.inside, c.loaded, c.last = false, true, m.At
		return nil
	case m.Type == Item && c.inside:
		return nil
	case m.Type != Item && m.Type != Heartbeat,
		c.inside, !c.loaded, m.After != c.last, !m.At.Reached(m.After):
		return c.lost(m)
	}
	c.last = m.At
	return nil
}

// lost makes the next stream start with a snapshot.
func (c *Cursor) lost(m Mark) error {
	err := fmt.Errorf("stream: message of type %d at %s after %s follows %s (loaded: %t, within a snapshot: %t)",
		m.Type, m.At, m.After, c.last, c.loaded, c.inside)
	c.loaded, c.inside = false, false
	return err
}

// InSnapshot reports whether the last message belongs to a snapshot that is not
// complete.
func (c *Cursor) InSnapshot() bool { return c.inside }

// Position returns the place of the last message outside a snapshot; zero
// before the first snapshot is complete.
func (c *Cursor) Position() Position { return c.last }
