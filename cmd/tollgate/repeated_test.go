package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// repeatedLog is a logger whose clock a test moves, and what it has written.
func repeatedLog() (log *slog.Logger, now *time.Time, lines func() []string) {
	var out bytes.Buffer
	at := time.Unix(1e9, 0)
	h := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(newOnceInAWhile(h, func() time.Time { return at })), &at, func() []string {
		defer out.Reset()
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
}

func TestOneCauseIsToldOnce(t *testing.T) {
	log, now, lines := repeatedLog()
	for i := range 100 {
		log.Warn("no answer", "address", "10.0.0.1:443", "request_id", fmt.Sprint("r", i), "calls", i, "error", fmt.Errorf("read from port %d: refused", 40000+i))
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "request_id=r0") {
		t.Fatalf("%q", got)
	}
	*now = now.Add(repeatEvery)
	log.Warn("no answer", "address", "10.0.0.1:443", "error", errors.New("read from port 1: refused"))
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "left_out=99") {
		t.Fatalf("%q", got)
	}
	*now = now.Add(repeatEvery)
	log.Warn("no answer", "address", "10.0.0.1:443", "error", errors.New("read from port 1: refused"))
	if got := lines(); len(got) != 1 || strings.Contains(got[0], "left_out") {
		t.Fatalf("%q", got)
	}
}

func TestOtherCausesAreTold(t *testing.T) {
	log, _, lines := repeatedLog()
	log.Warn("API rejected", "api", "shop", "reason", "no back end")
	log.Warn("API rejected", "api", "shop2", "reason", "no back end")
	log.Warn("API rejected", "api", "shop", "reason", "bad name")
	log.Error("API rejected", "api", "shop")
	log.With("group", "edge").Warn("API rejected", "api", "shop", "reason", "no back end")
	log.WithGroup("x").Warn("API rejected", "api", "shop", "reason", "no back end")
	log.Warn("gone")
	if got := lines(); len(got) != 7 {
		t.Errorf("%d lines: %q", len(got), got)
	}
	for range 3 {
		log.Info("refused", "code", "900901")
	}
	if got := lines(); len(got) != 3 {
		t.Errorf("what happens is not what goes wrong: %q", got)
	}
}

// However many causes there are, memory is bounded, and each new one is told.
func TestManyCauses(t *testing.T) {
	log, now, lines := repeatedLog()
	letters := func(i int) string {
		return strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprint(i))
	}
	for i := range 3*mostCauses + 1 {
		*now = now.Add(time.Millisecond)
		log.Warn("API rejected", "api", letters(i))
	}
	if got := lines(); len(got) != 3*mostCauses+1 {
		t.Errorf("%d lines", len(got))
	}
	if h := log.Handler().(*onceInAWhile); len(h.causes.told) > mostCauses {
		t.Errorf("%d causes are remembered", len(h.causes.told))
	}
}
