package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// What goes wrong is told once in so long for each cause, and no more than so
// many causes are remembered.
const (
	repeatEvery = 10 * time.Second
	mostCauses  = 1000
)

// onceInAWhile is a slog.Handler that leaves out warnings and errors that say
// again what was just said: an outage must not fill the disk. The next line of
// that cause says how many were left out. The cause is the message and what it
// is about, and the error without its numbers.
type onceInAWhile struct {
	slog.Handler
	now    func() time.Time
	causes *causes
	prefix string // of the attributes that the logger has
}

// causes is shared by a handler and those made of it.
type causes struct {
	mu   sync.Mutex
	told map[string]*cause
}

type cause struct {
	at      time.Time
	leftOut int
}

func newOnceInAWhile(h slog.Handler, now func() time.Time) *onceInAWhile {
	return &onceInAWhile{Handler: h, now: now, causes: &causes{told: map[string]*cause{}}}
}

// Handle implements slog.Handler.
func (o *onceInAWhile) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(o.prefix)
		withoutNumbers(&b, r.Message)
		r.Attrs(func(a slog.Attr) bool {
			addCause(&b, a)
			return true
		})
		leftOut, tell := o.causes.tell(b.String(), o.now())
		if !tell {
			return nil
		}
		if leftOut > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("left_out", leftOut))
		}
	}
	return o.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (o *onceInAWhile) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(o.prefix)
	for _, a := range attrs {
		addCause(&b, a)
	}
	return &onceInAWhile{o.Handler.WithAttrs(attrs), o.now, o.causes, b.String()}
}

// WithGroup implements slog.Handler.
func (o *onceInAWhile) WithGroup(name string) slog.Handler {
	return &onceInAWhile{o.Handler.WithGroup(name), o.now, o.causes, o.prefix + name + "."}
}

// addCause adds an attribute, unless it is a figure, names one request, or says
// where it failed.
func addCause(b *strings.Builder, a slog.Attr) {
	value := a.Value.Resolve()
	if a.Key == "request_id" || a.Key == "stack" || value.Kind() != slog.KindString && value.Kind() != slog.KindAny {
		return
	}
	b.WriteByte(0)
	b.WriteString(a.Key)
	b.WriteByte('=')
	switch a.Key {
	case "error", "reason", "from", "client": // ports, times, counts
		withoutNumbers(b, value.String())
	default:
		b.WriteString(value.String())
	}
}

func withoutNumbers(b *strings.Builder, text string) {
	for i := range len(text) {
		if c := text[i]; c < '0' || c > '9' {
			b.WriteByte(c)
		}
	}
}

// tell reports whether a cause is to be told at now, and how many lines of it
// were left out since it last was.
func (c *causes) tell(what string, now time.Time) (leftOut int, tell bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.told[what]
	if known != nil && now.Sub(known.at) < repeatEvery {
		known.leftOut++
		return 0, false
	}
	if known != nil {
		leftOut = known.leftOut
	} else if len(c.told) >= mostCauses {
		c.forget(now)
	}
	c.told[what] = &cause{at: now}
	return leftOut, true
}

// forget drops what would be told again in any case; everything, if that is not
// enough.
func (c *causes) forget(now time.Time) {
	for what, known := range c.told {
		if now.Sub(known.at) >= repeatEvery {
			delete(c.told, what)
		}
	}
	if len(c.told) >= mostCauses {
		clear(c.told)
	}
}
