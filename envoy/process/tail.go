package process

import (
	"io"
	"os"
	"strings"
	"sync"
)

// tail passes everything on and keeps the last lines, to say why Envoy stopped.
type tail struct {
	mu    sync.Mutex
	next  io.Writer // may be nil
	lines []string  // complete, at most tailLines
	rest  []byte    // of the line that is not yet complete
}

const (
	tailLines    = 12
	tailLineSize = 512
)

// Write never fails: a full disk or a closed terminal must not stop Envoy,
// which would block on a pipe that nobody reads.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next != nil {
		_, _ = t.next.Write(p)
	}
	for _, b := range p {
		if b != '\n' {
			if len(t.rest) < tailLineSize {
				t.rest = append(t.rest, b)
			}
			continue
		}
		t.lines = append(t.lines, string(t.rest))
		t.rest = t.rest[:0]
		if len(t.lines) > tailLines {
			t.lines = t.lines[1:]
		}
	}
	return len(p), nil
}

// String returns the last lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := strings.Join(t.lines, "\n")
	if len(t.rest) > 0 {
		out += "\n" + string(t.rest)
	}
	return strings.TrimSpace(out)
}

// unfailing makes a writer one that drops what it cannot write. A file or
// nothing is handed to Envoy as it is.
func unfailing(w io.Writer) io.Writer {
	if _, file := w.(*os.File); file || w == nil {
		return w
	}
	return dropping{w}
}

type dropping struct{ next io.Writer }

func (d dropping) Write(p []byte) (int, error) {
	_, _ = d.next.Write(p)
	return len(p), nil
}
