package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFaultLogBlocked: whoever logs goes on while nobody takes the log, and what
// was lost is counted.
func TestFaultLogBlocked(t *testing.T) {
	t.Run("F82 pipe", func(t *testing.T) {
		r, out, err := os.Pipe() // whose reader stands still
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		w := newLogWriter(out)
		log := slog.New(slog.NewTextHandler(w, nil))
		const lines = 3 * logLines
		done := make(chan struct{})
		go func() {
			defer close(done)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for i := range lines / 4 {
						log.Info("refused", "number", i)
					}
				})
			}
			all.Wait()
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("logging waits for the reader")
		}
		lost := w.dropped.Load()
		if lost == 0 || lost >= lines {
			t.Errorf("%d of %d lines dropped", lost, lines)
		}
		got := make(chan int, 1)
		go func() {
			all, _ := io.ReadAll(r)
			got <- bytes.Count(all, []byte("\n"))
		}()
		w.Flush(time.Minute)
		log.Info("the reader is back")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_ = out.Close()
		if n := <-got; uint64(n)+lost != lines+1 {
			t.Errorf("%d lines came, %d were dropped, of %d", n, lost, lines+1)
		}
	})
	t.Run("F82 the disk is full", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		w := newLogWriter(full)
		for range 10 {
			fmt.Fprintln(w, "a line")
		}
		_ = w.Close()
		if n := w.dropped.Load(); n != 10 {
			t.Errorf("%d lines counted as dropped, want 10", n)
		}
	})
}

func TestLogWriter(t *testing.T) {
	var b bytes.Buffer
	w := newLogWriter(&b)
	big := strings.Repeat("x", logBytes+1)
	line := []byte("one\n")
	_, _ = w.Write(line)
	copy(line, "two") // as slog does with its buffer
	_, _ = w.Write(line)
	_, _ = io.WriteString(w, big)
	_ = w.Close()
	_, _ = io.WriteString(w, "late")
	_ = w.Close()
	if b.String() != "one\ntwo\n" || w.dropped.Load() != 2 {
		t.Errorf("%q, %d dropped", b.String(), w.dropped.Load())
	}
}
