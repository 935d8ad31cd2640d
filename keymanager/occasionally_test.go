package keymanager

import (
	"slices"
	"testing"
	"time"
)

// What goes wrong with each call is told once, and then how often it was.
func TestOccasionally(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var o Occasionally
	var told []int
	for range 25_000 { // a call each millisecond
		if n := o.Tell(now); n > 0 {
			told = append(told, n)
		}
		now = now.Add(time.Millisecond)
	}
	if want := []int{1, 10_000, 10_000}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if n := o.Tell(now.Add(-time.Hour)); n == 0 {
		t.Error("a clock that was set back silences it")
	}
}
