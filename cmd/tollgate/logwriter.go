package main

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How much of the log waits while nobody takes it.
const (
	logLines = 8192
	logBytes = 8 << 20
)

// logWriter writes lines from a goroutine of its own, so that a pipe whose
// reader has stopped, or a full disk, never holds up a decision: lines that find
// no place are dropped and counted. It is a prometheus.Collector.
type logWriter struct {
	out     io.Writer
	lines   chan []byte
	waiting atomic.Int64 // bytes
	dropped atomic.Uint64
	ended   chan struct{}

	mu     sync.RWMutex // Write against Close
	closed bool
}

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, lines: make(chan []byte, logLines), ended: make(chan struct{})}
	go w.run()
	return w
}

func (w *logWriter) run() {
	defer close(w.ended)
	for line := range w.lines {
		if _, err := w.out.Write(line); err != nil {
			w.dropped.Add(1)
		}
		w.waiting.Add(-int64(len(line)))
	}
}

// Write implements io.Writer for one line. It never waits and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	size := int64(len(line))
	if w.closed || w.waiting.Add(size) > logBytes {
		w.drop(size)
		return len(line), nil
	}
	select {
	case w.lines <- append([]byte(nil), line...): // the caller uses it again
	default:
		w.drop(size)
	}
	return len(line), nil
}

func (w *logWriter) drop(size int64) {
	w.dropped.Add(1)
	if !w.closed {
		w.waiting.Add(-size)
	}
}

// Flush waits until every line is out, at most for d.
func (w *logWriter) Flush(d time.Duration) {
	for end := time.Now().Add(d); w.waiting.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// Close takes no more lines, and waits a second at most for those there are.
func (w *logWriter) Close() error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.lines)
	}
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-time.After(time.Second):
	}
	return nil
}

var droppedLinesDesc = prometheus.NewDesc("tollgate_log_dropped_lines_total",
	"Lines of the log that could not be written, or found no place because nobody takes them.", nil, nil)

// Describe implements prometheus.Collector.
func (w *logWriter) Describe(ch chan<- *prometheus.Desc) { ch <- droppedLinesDesc }

// Collect implements prometheus.Collector.
func (w *logWriter) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(droppedLinesDesc, prometheus.CounterValue, float64(w.dropped.Load()))
}
